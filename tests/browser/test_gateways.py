"""In a real Chromium: the gateway that shows the page its session is killed, and the same page goes on at
another one, which it reaches through a load balancer."""

from __future__ import annotations

import httpx
import pytest

pytest.importorskip("playwright", reason="pip install playwright")
from tests.rigs.server.browser_rig import chromium, live, opened, say, shown, until
from tests.rigs.server.gateway_processes import gateway_processes, tcp_balancer
from tests.rigs.waiting import LONG_S

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]


async def test_a_killed_gateway_costs_the_page_a_pause_and_nothing_else() -> None:
    with gateway_processes("g1", "g2") as gateways:
        ports = [gateway.port for gateway in gateways.values()]
        async with tcp_balancer(ports) as base, chromium() as browser:
            async with httpx.AsyncClient(base_url=base, trust_env=False, timeout=LONG_S) as http:
                new = (await http.post("/v1/sessions", json={"prompt": "a red ball stands still"})).json()
            url = f"{base}?session={new['id']}#token={new['token']}"
            async with opened(browser, url) as page:
                await live(page, 120)
                await say(page, "a blue ball stands still")
                await shown(page, 10)
                before = await page.evaluate("() => psistream.framesShown")
                (shows,) = [each for each in gateways.values() if each.viewers]
                shows.kill()
                await until(page, "psistream.framesShown", lambda n: n > before + 40, "more frames", 120)
                await live(page, 120)
                receipt = await say(page, "a green ball stands still")
                assert receipt["status"] == "applied"
                await shown(page, 10)
                states = await page.evaluate("() => psistream.states")
                assert states == ["live"]
