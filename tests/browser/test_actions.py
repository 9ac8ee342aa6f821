"""A model with other actions in a browser: the page shows a button for each, and the arrow keys trigger
them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.server.subject import Subject, own_server

pytest.importorskip("playwright", reason="pip install playwright")
from playwright.async_api import Browser

from tests.rigs.server import browser_rig
from tests.rigs.server.browser_rig import FAKE, live, opened, until
from tests.rigs.waiting import LONG_S

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]
browser = browser_rig.browser


@pytest.fixture(scope="module")
def swimmer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    model: Path = tmp_path_factory.mktemp("swimmer")
    (model / "fake.json").write_text(json.dumps({"actions": ["rest", "swim", "dive"]}))
    with own_server([*FAKE, "--model", str(model)]) as subject:
        yield subject


async def test_the_page_steers_a_model_with_other_actions(browser: Browser, swimmer: Subject) -> None:
    def held() -> object:
        return httpx.get(f"{swimmer.target.base}v1/sessions/main", timeout=LONG_S).json()["action"]

    async with opened(browser, swimmer.target.base) as page:
        await live(page)
        await until(
            page, "document.querySelectorAll('.pad button:not([hidden])').length", lambda n: n == 3, "3"
        )
        assert await page.inner_text(".pad button:not([hidden]) >> nth=1") == "→ swim"
        down = "document.querySelector('.pad .down')?.dataset.action ?? null"
        await page.keyboard.down("ArrowRight")
        await until(page, down, lambda action: action == "swim", "swim")
        for _ in range(200):
            if held() == "swim":
                break
            await page.wait_for_timeout(50)
        assert held() == "swim"
        await page.keyboard.up("ArrowRight")
        await until(page, down, lambda action: action is None, "release")
        await page.locator(".pad button:not([hidden]) >> nth=2").dispatch_event(
            "keydown", {"key": "Enter", "repeat": False}
        )
        await until(page, down, lambda action: action == "dive", "dive")
