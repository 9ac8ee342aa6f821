"""A real headless Chromium shows the page of a real server process with the fake backend."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.network.ports import free_port
from benchmarks.server.subject import Subject, own_server
from engine.world.attributes import HEROES, VALUES
from engine.world.words import names as words
from engine.world.words import verbs

pytest.importorskip("playwright", reason="pip install playwright")
from playwright.async_api import Browser, Page, Route

from tests.rigs.server import browser_rig
from tests.rigs.server.browser_rig import (
    FAKE,
    live,
    moved,
    opened,
    reads,
    say,
    shown,
    sky,
    still,
    stripes,
    until,
)
from tests.rigs.server.fake_device import FAKE_OPTIONS

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]
server, browser = browser_rig.server, browser_rig.browser


async def test_frames_advance_and_a_prompt_changes_the_picture(
    browser: Browser, server: Subject, tmp_path: Path
) -> None:
    async with opened(browser, server.target.base, large=True) as page:
        await live(page)
        await say(page, "a red ball stands still", "Shift+Enter")  # whatever other tests have said before
        await shown(page, 10)
        red = await sky(page)
        assert red[0] > 2 * red[2], red

        receipt = await say(page, "a blue ball stands still")
        assert receipt["status"] == "applied"
        assert 0 <= receipt["receivedMs"] <= receipt["appliedMs"]
        assert receipt["receivedMs"] < receipt["onScreenMs"] < 5000
        assert receipt["frame"] > 0
        line = await page.inner_text("#receipt")
        assert "received" in line
        assert f"segment {receipt['segment']}, frame {receipt['frame']}" in line.replace("\n", " ")
        assert "on screen" in line
        assert await page.inner_text("#caption") == "a blue ball stands still"
        for _ in range(20):  # a blend takes a moment, and longer on a slow machine
            await shown(page, 10)
            blue = await sky(page)
            if blue[2] > 1.4 * blue[0]:
                break
        assert blue[2] > 1.4 * blue[0], blue

        cut = await say(page, "a green ball stands still", "Shift+Enter")
        assert cut["how"] == "cut"
        await page.screenshot(path=tmp_path / "page.png")
        with Image.open(tmp_path / "page.png") as shot:
            assert shot.size == (1280, 800)


async def standing(page: Page) -> float:
    """A scene in which nothing moves by itself. Returns its camera's position."""
    await live(page)
    await say(page, "a white ball stands still", "Shift+Enter")
    await shown(page, 10)
    assert await still(page)
    return await stripes(page)


async def test_a_key_walks_until_it_is_released(browser: Browser, server: Subject) -> None:
    async with opened(browser, server.target.base) as page:
        start = await standing(page)
        await page.keyboard.down("ArrowRight")
        await until(page, "document.querySelectorAll('.down').length", lambda n: n > 0, "a key lit up")
        await moved(page, start)
        await page.keyboard.up("ArrowRight")
        await shown(page, 18)
        assert await still(page), "the hero stands again once the key is up"


async def test_a_tap_shorter_than_a_segment_still_counts(browser: Browser, server: Subject) -> None:
    async with opened(browser, server.target.base) as page:
        start = await standing(page)
        await page.keyboard.press("d")
        await moved(page, start)
        await shown(page, 18)
        assert await still(page)


async def test_keys_in_the_prompt_box_are_text(browser: Browser, server: Subject) -> None:
    async with opened(browser, server.target.base) as page:
        await standing(page)
        await page.keyboard.press("/")
        assert await page.evaluate("() => document.activeElement.id") == "prompt"
        await page.keyboard.down("ArrowRight")
        await page.keyboard.type("wasd")
        await shown(page, 10)
        assert await still(page)
        assert await page.input_value("#prompt") == "wasd"


async def test_the_panel_tells_how_the_viewers_network_does(browser: Browser, server: Subject) -> None:
    async with opened(browser, server.target.base) as page:
        await live(page)
        await page.keyboard.press("i")
        text = await reads(page, "#panel", "carries all: quality 4 of 4")
        assert "up to 900 kbit/s" in text
        assert "0 % lost" in text


async def test_the_panel_shows_a_state_that_never_grows(browser: Browser, server: Subject) -> None:
    async with opened(browser, server.target.base) as page:
        await live(page)
        await page.keyboard.press("i")
        await reads(page, "#panel", "never grows")
        seen = set()
        for _ in range(4):
            seen.add(await page.inner_text("#panel .panel-hero:nth-of-type(3) .panel-big"))
            await shown(page, 10)
        assert len(seen) == 1, seen
        assert seen.pop().endswith("bytes")
        text = await reads(page, "#panel", "320 × 192")
        assert "VP8" in text or "H264" in text
        assert "fake on fake" in text
        await until(page, "document.querySelector('.spark-line').getAttribute('points')", bool, "a sparkline")


async def test_pause_resume_and_an_uploaded_picture(
    browser: Browser, server: Subject, tmp_path: Path
) -> None:
    Image.new("RGB", (1600, 900), (250, 240, 20)).save(tmp_path / "mine.png")
    async with opened(browser, server.target.base) as page:
        await live(page)
        await page.keyboard.press("p")
        await reads(page, "#status-text", "Paused")
        await page.click("[data-part=pause]")
        await reads(page, "#status-text", "Live")
        await page.set_input_files("#file", tmp_path / "mine.png")
        await reads(page, "#receipt", "Your picture")
        await until(page, "document.querySelectorAll('.step.done').length", lambda n: n == 3, "on screen")
        yellow = await sky(page)
        assert yellow[0] > yellow[2] + 30, yellow
        await page.set_input_files("#file", {"name": "x.png", "mimeType": "image/png", "buffer": b"no"})
        await reads(page, "#toast", "x.png")


@pytest.mark.slow
async def test_a_slow_device_shows_the_pace_and_a_fast_one_does_not(
    browser: Browser, server: Subject, tmp_path: Path
) -> None:
    (tmp_path / "fake.json").write_text('{"delay_s": 1.3}')  # 2.6 s for half a second of video
    slow = [*FAKE_OPTIONS, "--model", str(tmp_path)]
    with own_server(slow) as subject:
        async with opened(browser, subject.target.base, large=True) as page:
            told = "[psistream.state, document.querySelector('.overlay').textContent]"
            state, words = await until(page, told, lambda t: t[0] == "live" or "about" in t[1], "connected")
            assert state == "live" or "first picture is being generated" in words
            await live(page)
            for state, words in (("buffering", ("Buffering", "about")), ("slow", ("Slow motion", "0.4×"))):
                await until(page, "psistream.pace", lambda now, state=state: now == state, state)  # type: ignore[misc]
                assert await page.is_visible("[data-part=pace]")
                said = await page.inner_text("[data-part=pace]")
                assert all(word in said for word in words), said
                await page.screenshot(path=tmp_path / f"{state}.png")
            assert await page.inner_text("#status-text") == "Live"
    async with opened(browser, server.target.base) as page:
        await live(page)
        await shown(page, 30)
        assert not await page.is_visible("[data-part=pace]")
        assert await page.evaluate("() => psistream.pace") == ""


async def test_a_phone_fits_and_its_buttons_walk(browser: Browser, server: Subject, tmp_path: Path) -> None:
    async with opened(browser, server.target.base, phone=True) as page:
        start = await standing(page)
        size = await page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
        assert size[0] <= size[1]
        for selector in ("[data-part=frame]", "#prompt", ".pad", "#receipt"):
            box = await page.locator(selector).bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 390.5
            assert box["y"] + box["height"] <= 844.5, selector
        await page.dispatch_event(".pad [data-action=right]", "pointerdown", {"pointerId": 1})
        await moved(page, start)
        await page.dispatch_event(".pad [data-action=right]", "pointerup", {"pointerId": 1})
        await shown(page, 18)
        assert await still(page)
        await page.screenshot(path=tmp_path / "phone.png")


async def test_the_page_says_that_a_session_does_not_exist(browser: Browser, server: Subject) -> None:
    async with opened(browser, f"{server.target.base}?session=nobody") as page:
        await until(page, "psistream.state", lambda s: s == "unknown", "unknown")
        assert "does not exist" in await page.inner_text("[data-part=title]")
        await page.click("[data-part=actions] >> text=shared")
        await live(page)


async def test_the_page_reconnects_when_the_server_returns(browser: Browser) -> None:
    port = free_port()
    with own_server(FAKE, port) as first:
        context = opened(browser, first.target.base)
        page = await context.__aenter__()
        await live(page)
        await shown(page, 5)
    try:
        await until(page, "psistream.state", lambda s: s in ("reconnecting", "gone"), "noticed")
        assert await page.is_visible("[data-part=title]")
        with own_server(FAKE, port):
            await live(page)
            await shown(page, 5)
            await say(page, "a yellow ball stands still")
    finally:
        await context.__aexit__(None, None, None)


async def test_chips_use_the_words_that_the_model_was_trained_on(browser: Browser, server: Subject) -> None:
    async with opened(browser, server.target.base) as page:
        spoken = await page.evaluate(
            """async () => {
              const {say, WORDS} = await import('/js/steering/vocabulary.js');
              const all = (field) => Object.keys(WORDS[field]);
              const doing = (hero) => all('move').map((move) => [hero, move, say({hero, move})]);
              const heroes = all('hero').flatMap(doing);
              const fields = Object.keys(WORDS);
              return {heroes, places: WORDS.place, times: WORDS.time, weathers: WORDS.weather,
                      names: Object.fromEntries(fields.map((f) => [f, all(f)]))};
            }"""
        )
        await page.click("#chips .chip:first-child")
        surprise = await until(page, "psistream.lastReceipt", lambda r: r is not None, "surprise me")
    for field in ("place", "time", "weather", "hero", "colour"):
        assert tuple(spoken["names"][field]) == VALUES[field]
    for phrase, time in zip(spoken["times"].values(), words.TIMES, strict=True):
        assert phrase in time.phrases.train
    for phrase, weather in zip(spoken["weathers"].values(), words.WEATHERS, strict=True):
        assert phrase in weather.phrases.train
    for phrase, place in zip(spoken["places"].values(), words.PLACES, strict=True):
        assert phrase in [noun.replace("|", " ") for noun in place.nouns.train]
    for hero, move, sentence in spoken["heroes"]:
        kinds = verbs.VERBS[HEROES.index(hero)]
        known_verbs = {"jumps": kinds.jump, "waits": kinds.wait}.get(move, kinds.go).train
        said = sentence.partition(f"{hero} ")[2].removesuffix(" left").removesuffix(" right")
        assert said in [pair.split("/")[0] for pair in known_verbs], sentence
    assert surprise["how"] == "cut"


async def test_a_chip_that_is_pressed_while_the_prompt_changes_is_not_lost(
    browser: Browser, server: Subject
) -> None:
    async with opened(browser, server.target.base) as page:
        await live(page)
        await page.evaluate("() => { document.querySelector('#chips .chip:nth-child(2)').id = 'old'; }")
        await page.hover("#chips .chip:first-child")
        await page.mouse.down()
        await say(page, "a red cube jumps")
        await until(page, "document.querySelector('#old')", lambda chip: chip is None, "other suggestions")
        await page.mouse.up()
        await until(page, "psistream.lastReceipt", lambda r: r["how"] == "cut", "surprise me")


async def test_a_prompt_typed_before_the_connection_is_there_is_not_lost(
    browser: Browser, server: Subject
) -> None:
    async with opened(browser, "about:blank") as page:
        holding = asyncio.Event()

        async def hold(route: Route) -> None:
            await holding.wait()
            await route.continue_()

        await page.route("**/whep", hold)
        await page.goto(server.target.base)
        await page.fill("#prompt", "a black cube")
        await page.press("#prompt", "Enter")
        assert "as soon as possible" in await page.inner_text("#toast")
        assert await page.evaluate("() => psistream.lastReceipt") is None
        holding.set()
        await until(page, "psistream.lastReceipt", lambda r: r and r["status"] == "applied", "sent after all")
