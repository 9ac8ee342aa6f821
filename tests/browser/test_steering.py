"""Steering in a browser: how and when a prompt takes effect, mixes, rewind, two futures, saved moments, and
what the page shows when the server is full or restarts."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.network.ports import free_port
from benchmarks.server.subject import Subject, own_server
from clients.mix import mixed

pytest.importorskip("playwright", reason="pip install playwright")
from playwright.async_api import Browser, Page, Route

from tests.rigs.server import browser_rig
from tests.rigs.server.browser_rig import FAKE, live, opened, private, reads, say, shown, until
from tests.rigs.waiting import LONG_S
from tests.rigs.waiting import until as wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]
server, browser = browser_rig.server, browser_rig.browser
LINES = [
    "a fox",
    "a forest 70% | a city 30%",
    "a fox|a cube",
    "a fox 50% | a cube | a bird",
    " a fox: 12.5 % |a cube| ",
    "a 30% slope",
    "| a fox |",
    "a 0% | b",
    "70% | a fox",
    "a 100% | b",
    "|",
]


async def both(page: Page) -> None:
    await until(page, "psistream.states", lambda s: s == ["live", "live"], "two futures live")


def sessions(server: Subject) -> set[str]:
    told = httpx.get(f"{server.target.base}v1/sessions", timeout=LONG_S).json()["sessions"]
    return {session["id"] for session in told}


async def test_how_and_when_are_chosen_by_buttons_or_by_keys(browser: Browser, server: Subject) -> None:
    async with opened(browser, server.target.base) as page:
        await live(page)
        ways = {key: await say(page, f"a blue ball {key}", key) for key in ("Enter", "Alt+Enter")}
        await page.click("[data-how=soft]")
        await page.click("#when")
        assert await page.get_attribute("#when", "aria-pressed") == "true"
        ways["buttons"] = await say(page, "a green ball fades in")
        line = await page.inner_text("#receipt")
        assert "fading" in line
        assert "at once" in line
        ways["Alt+Shift+Enter"] = await say(page, "a white ball", "Alt+Shift+Enter")
        await page.click("#when")
        ways["Control+Enter"] = await say(page, "a black ball", "Control+Enter")
        assert {name: (entry["how"], entry["when"]) for name, entry in ways.items()} == {
            "Enter": ("recondition", "next"),
            "Alt+Enter": ("recondition", "now"),
            "buttons": ("soft", "now"),
            "Alt+Shift+Enter": ("cut", "now"),
            "Control+Enter": ("soft", "next"),
        }
        assert {entry["status"] for entry in ways.values()} == {"applied"}
        assert "is on screen after" in await page.inner_text("#spoken")


async def test_prompts_are_mixed_in_one_line_and_an_invalid_mix_is_reported(
    browser: Browser, server: Subject
) -> None:
    async with opened(browser, server.target.base) as page:
        await live(page)
        await page.fill("#prompt", "a blue ball 70% | a red cube 40% | a bird")
        await page.press("#prompt", "Enter")
        fault = await page.evaluate("() => document.getElementById('prompt').validationMessage")
        assert "Nothing is left for “a bird”" in fault
        assert await page.evaluate("() => psistream.lastReceipt") is None
        await page.fill("#prompt", "a blue ball 70% | a red cube")
        await reads(page, "#receipt", "30 %")
        await say(page, "a blue ball 70% | a red cube")
        caption = await reads(page, "#caption", "a red cube")
        assert "70" in caption


async def test_page_and_command_line_understand_mixes_alike(browser: Browser, server: Subject) -> None:
    async with opened(browser, server.target.base) as page:
        answers = await page.evaluate(
            """async (lines) => {
              const {mixed} = await import('/js/steering/mix.js');
              return lines.map((line) => { try { return mixed(line); } catch (error) { return null; } });
            }""",
            LINES,
        )
    expected: list[dict[str, Any] | None] = []
    for line in LINES:
        try:
            expected.append(mixed(line))
        except ValueError:
            expected.append(None)
    assert answers == expected
    assert expected[-4:] == [None] * 4


async def test_time_goes_back_by_button_and_by_key(browser: Browser, server: Subject) -> None:
    async with opened(browser, server.target.base) as page:
        await private(page)
        begun = await reads(page, "#caption", " ")
        await say(page, "a purple cube stands still")
        await shown(page, 5)
        await page.click("[data-back='30']")
        await reads(page, "#caption", begun)  # the prompt at that time
        assert await page.text_content("[data-part=jump-by]") == "30 s"  # requested, and more than there is:
        await until(page, "document.querySelectorAll('.step.done').length", lambda n: n == 3, "on screen")
        how_far = (await reads(page, "#receipt", "Back")).partition(" s")[0].removeprefix("Back ")
        assert 0 <= float(how_far) < 30
        await say(page, "a purple cube stands still")
        await page.keyboard.press("Backspace")
        await reads(page, "#receipt", "Back")
        await until(page, "document.querySelectorAll('.step.done').length", lambda n: n == 3, "on screen")


async def test_two_futures_go_their_own_ways(browser: Browser, server: Subject, tmp_path: Path) -> None:
    before = sessions(server)
    async with opened(browser, server.target.base, large=True) as page:
        await live(page)
        await say(page, "a yellow cube stands still")
        await page.keyboard.press("t")
        await both(page)
        assert await page.evaluate("() => [psistream.steered, document.activeElement.id]") == [2, "prompt"]
        await page.keyboard.type("a green fox")
        await page.keyboard.press("Enter")
        await reads(page, ".pane:nth-child(2) [data-part=caption]", "a green fox")
        assert "cube" in await page.inner_text(".pane:nth-child(1) [data-part=caption]")
        await page.screenshot(path=tmp_path / "two.png")
        size = await page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
        assert size[0] <= size[1]

        await page.keyboard.press("1")
        await reads(page, "#session-label", "future 1")
        assert "cube" in await page.inner_text("#receipt")  # the latest control of this one
        await page.reload()
        await both(page)
        assert len(sessions(server) - before) == 1
        await page.click(".pane:nth-child(2) [data-part=close]")
        await until(page, "psistream.states.length", lambda n: n == 1, "one is left")
        assert await page.evaluate("() => location.search") == ""
        await wait_until(lambda: sessions(server) == before, "end of the closed future")


async def test_the_first_future_may_be_let_go(browser: Browser, server: Subject) -> None:
    async with opened(browser, server.target.base, phone=True) as page:
        await live(page)
        await page.click("#fork")
        await both(page)
        for selector in (".pane:nth-child(1) .frame", ".pane:nth-child(2) .frame", ".strip", "#prompt"):
            box = await page.locator(selector).bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 390.5
            assert box["y"] + box["height"] <= 844.5, selector
        await page.click(".pane:nth-child(1) [data-part=close]")
        await until(page, "psistream.states.length", lambda n: n == 1, "one is left")
        await shown(page, 5)
        assert "session=" in await page.evaluate("() => location.search")
        assert await page.evaluate("() => document.querySelectorAll('video').length") == 1
        await page.click("#end-private")
        await live(page)


async def test_a_moment_is_saved_and_dropped_on_the_page_again(
    browser: Browser, server: Subject, tmp_path: Path
) -> None:
    async with opened(browser, server.target.base) as page:
        await live(page)
        await say(page, "an orange balloon hovers in place")
        await shown(page, 10)
        async with page.expect_download() as started:
            await page.click("#save")
        download = await started.value
        assert download.suggested_filename.startswith("psistream-main-")
        await download.save_as(tmp_path / "moment.safetensors")
        await say(page, "a black cube")

        await page.set_input_files("#moment-file", tmp_path / "moment.safetensors")
        await until(page, "location.search", lambda s: "session=" in s, "a session of its own")
        await live(page)
        await reads(page, "#caption", "an orange balloon")
        spoilt = {"name": "x.safetensors", "mimeType": "", "buffer": b"spoilt"}
        await page.set_input_files("#moment-file", spoilt)  # type: ignore[arg-type]
        await reads(page, "#toast", "snapshot: this is not a snapshot")
        assert await page.evaluate("() => psistream.state") == "live"


async def test_a_full_server_is_shown_and_retried(browser: Browser, server: Subject) -> None:
    async with opened(browser, server.target.base) as page:
        await live(page)
        answers = 2

        async def full(route: Route) -> None:
            nonlocal answers
            if answers:
                answers -= 1
                problem = {"code": "full", "message": "no room", "field": None}
                await route.fulfill(status=503, json=problem, headers={"Retry-After": "1"})
            else:
                await route.continue_()

        await page.route("**/v1/sessions", full)
        await page.click("#new-private")
        await reads(page, "#toast", "All places on this server are taken")
        assert "Trying again in 1 s" in await page.inner_text("#toast")
        await page.click("#toast-stop")
        assert not await page.is_visible("#toast")
        assert answers == 1
        await page.click("#new-private")
        await until(page, "location.search", lambda s: "session=" in s, "a session after all")
        assert answers == 0
        assert not await page.is_visible("#toast")


async def test_a_session_lost_in_a_restart_is_reported(browser: Browser) -> None:
    port = free_port()
    with own_server(FAKE, port) as first:
        context = opened(browser, first.target.base)
        page = await context.__aenter__()
        await private(page)
        await shown(page, 5)
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)  # without closing its sessions
    try:
        with own_server(FAKE, port):
            await reads(page, "[data-part=title]", "This session is gone")
            await page.click("[data-part=actions] >> text=Start a new one")
            await live(page)
            assert "session=" in await page.evaluate("() => location.search")
    finally:
        await context.__aexit__(None, None, None)


async def test_keys_are_explained_and_everything_has_a_name(browser: Browser, server: Subject) -> None:
    async with opened(browser, server.target.base) as page:
        await live(page)
        await page.keyboard.press("?")
        await reads(page, "#help", "Mix prompts with a bar")
        await page.keyboard.press("t")  # the card receives the keys now
        await page.keyboard.press("Escape")
        assert not await page.is_visible("#help")
        assert await page.evaluate("() => psistream.states.length") == 1
        nameless = await page.evaluate(
            """() => [...document.querySelectorAll('button, input, figure, dialog')]
              .filter((node) => !node.getAttribute('aria-label') && !node.getAttribute('aria-labelledby'))
              .filter((node) => !node.labels?.length && !node.textContent.trim())
              .map((node) => node.outerHTML)"""
        )
        assert nameless == []
