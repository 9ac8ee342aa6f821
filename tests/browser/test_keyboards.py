"""The page with different keyboards: input methods, Caps Lock, other scripts and writing directions."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from benchmarks.server.subject import Subject

pytest.importorskip("playwright", reason="pip install playwright")
from playwright.async_api import Browser, Page

from tests.rigs.server import browser_rig
from tests.rigs.server.browser_rig import live, opened, say
from tests.rigs.waiting import LONG_S, until_found

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]
server, browser = browser_rig.server, browser_rig.browser


async def press(page: Page, target: str, **event: object) -> None:
    """Dispatch a key event to this element."""
    await page.evaluate(
        "([target, event]) => document.querySelector(target).dispatchEvent("
        "new KeyboardEvent('keydown', { bubbles: true, cancelable: true, ...event }))",
        [target, event],
    )


async def until_reported(server: Subject, paused: bool) -> None:
    """Wait until the server reports this about the session."""
    async with httpx.AsyncClient(trust_env=False, timeout=LONG_S) as http:

        async def reported() -> Any:
            return (await http.get(server.target.path)).json()["paused"]

        await until_found(reported, paused.__eq__, f"session that is paused: {paused}")


async def test_the_enter_that_ends_a_composition_sends_nothing(browser: Browser, server: Subject) -> None:
    """Safari ends the composition before that Enter; only the key code 229 tells."""
    async with opened(browser, server.target.base) as page:
        await live(page)
        await page.fill("#prompt", "狐")
        for event in ({"key": "Enter", "keyCode": 229}, {"key": "Enter", "isComposing": True}):
            await press(page, "#prompt", **event)
            assert await page.input_value("#prompt") == "狐"
        assert await page.evaluate("() => psistream.lastReceipt") is None
        await say(page, "狐")


@pytest.mark.parametrize(
    ("key", "code"),
    [("/", "Slash"), (".", "Slash"), ("ю", "Period"), ("ζ", "KeyZ")],
    ids=["latin", "latin elsewhere", "cyrillic elsewhere", "greek elsewhere"],
)
async def test_a_key_that_types_something_else_is_no_shortcut(
    browser: Browser, server: Subject, key: str, code: str
) -> None:
    async with opened(browser, server.target.base) as page:
        await live(page)
        await press(page, "body", key=key, code=code)
        focused = await page.evaluate("() => document.activeElement.id")
        assert (focused == "prompt") == (key == "/")


@pytest.mark.parametrize(
    ("key", "code"),
    [("P", "KeyP"), ("з", "KeyP"), ("π", "KeyP"), ("p", "KeyR")],
    ids=["caps lock", "cyrillic", "greek", "dvorak"],
)
async def test_shortcuts_work_with_caps_lock_and_in_every_script(
    browser: Browser, server: Subject, key: str, code: str
) -> None:
    async with opened(browser, server.target.base) as page:
        await live(page)
        for paused in (True, False):
            await press(page, "body", key=key, code=code)
            await until_reported(server, paused)


async def test_a_prompt_in_arabic_or_hebrew_is_typed_from_the_right(
    browser: Browser, server: Subject
) -> None:
    async with opened(browser, server.target.base) as page:
        await live(page)
        for text, direction in (("ثعلب في الثلج", "rtl"), ("שועל", "rtl"), ("a fox", "ltr")):
            await page.fill("#prompt", text)
            shown = "getComputedStyle(document.getElementById('prompt')).direction"
            assert await page.evaluate(f"() => {shown}") == direction
