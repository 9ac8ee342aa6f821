"""In a real Chromium: the worker is killed, and the same page continues to play."""

from __future__ import annotations

import os
import signal

import pytest

from benchmarks.server.failover import workers
from benchmarks.server.subject import own_server

pytest.importorskip("playwright", reason="pip install playwright")
from tests.rigs.server.browser_rig import FAKE, chromium, live, opened, say, shown, sky, until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


async def test_a_killed_worker_costs_the_page_a_pause_and_nothing_else() -> None:
    with own_server(FAKE) as server:
        assert server.pid is not None
        async with chromium() as browser, opened(browser, server.target.base) as page:
            await live(page)
            await say(page, "a blue ball stands still")
            await shown(page, 20)

            before = await page.evaluate("() => psistream.framesShown")
            os.kill(workers(server.pid)[0], signal.SIGKILL)  # a spare is younger
            await until(page, "psistream.framesShown", lambda n: n > before + 40, "more frames", 120)
            blue = await sky(page)
            assert blue[2] > 1.4 * blue[0], blue
            receipt = await say(page, "a green ball stands still")
            assert receipt["status"] == "applied"
            await shown(page, 20)
            green = await sky(page)
            assert green[1] > 1.2 * green[2], green
