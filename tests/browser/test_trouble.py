"""The page in trouble: video that does not arrive, no WebRTC, keys held while another pane is selected."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.server.subject import Subject

pytest.importorskip("playwright", reason="pip install playwright")
from playwright.async_api import Browser, Route

from tests.rigs.server import browser_rig
from tests.rigs.server.browser_rig import live, moved, opened, reads, say, shown, still, stripes, until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]
server, browser = browser_rig.server, browser_rig.browser
NO_WAY = r"""(() => {
  const own = RTCPeerConnection.prototype.setRemoteDescription;
  RTCPeerConnection.prototype.setRemoteDescription = function ({type, sdp}) {
    const nowhere = sdp.replace(/a=candidate.*\r\n/g, '');
    const spoilt = nowhere.replace(/a=ice-pwd:.*/g, 'a=ice-pwd:' + '0'.repeat(22));
    return own.call(this, {type, sdp: window.through ? sdp : spoilt});
  };
})()"""
TAPS = """async () => {
  const {Walker} = await import('/js/steering/keys.js');
  const said = [], walker = new Walker((action) => said.push(action));
  walker.press('key', 'left');
  walker.release('key');  // waits until it was applied, and then the connection is lost
  walker.resync();
  walker.press('key', 'right');
  const owing = walker.leave();
  walker.resync();
  return {said, owing, held: walker.action};
}"""
SWITCHED_OFF = "window.RTCPeerConnection = function () { throw new Error('switched off'); }"


async def test_blocked_video_is_shown_and_retried(browser: Browser, server: Subject) -> None:
    async with opened(browser, "about:blank") as page:
        await page.add_init_script(NO_WAY)
        await page.goto(server.target.base)
        await until(page, "psistream.state", lambda s: s == "blocked", "no way through")
        assert "firewall" in await page.inner_text("[data-part=text]")
        await page.evaluate("() => { window.through = true; }")
        await page.click("[data-part=actions] >> text=Try now")
        await live(page)


@pytest.mark.parametrize("part", ["js/main.js", "js/steering/keys.js", "css/stage.css"])
async def test_a_page_of_which_a_part_did_not_arrive_is_loaded_again(
    browser: Browser, server: Subject, part: str
) -> None:
    async with opened(browser, "about:blank") as page:
        asked, again = [], asyncio.Event()

        async def drop_the_first(route: Route) -> None:
            asked.append(route.request.url)
            if len(asked) == 1:
                await route.abort("internetdisconnected")
                return
            again.set()
            await route.continue_()

        await page.route(f"**/{part}", drop_the_first)
        await page.goto(server.target.base)
        await asyncio.wait_for(again.wait(), 40)
        await live(page)
        assert len(asked) == 2


async def test_disabled_webrtc_is_reported(browser: Browser, server: Subject) -> None:
    async with opened(browser, "about:blank") as page:
        await page.add_init_script(SWITCHED_OFF)
        await page.goto(server.target.base)
        await until(page, "psistream.state", lambda s: s == "unsupported", "unsupported")
        assert "WebRTC" in await page.inner_text("[data-part=text]")


async def test_selecting_another_pane_releases_the_held_action(browser: Browser, server: Subject) -> None:
    async with opened(browser, server.target.base) as page:
        await live(page)
        await say(page, "a white ball stands still", "Shift+Enter")
        await shown(page, 10)
        start = await stripes(page)
        await page.keyboard.down("ArrowRight")
        await moved(page, start)
        await page.click("#new-private")
        await until(page, "location.search", lambda s: "session=" in s, "a link of its own")
        await live(page)
        await say(page, "a black ball stands still", "Shift+Enter")
        await shown(page, 18)
        assert await still(page), "the key was pressed for the other video"
        await page.keyboard.up("ArrowRight")
        await page.click("#end-private")
        await live(page)
        await reads(page, "#caption", "white ball")
        await shown(page, 18)
        assert await still(page), "its hero was let go of"


async def test_a_tap_that_a_lost_connection_cut_short_does_not_walk_for_ever(
    browser: Browser, server: Subject
) -> None:
    async with opened(browser, server.target.base) as page:
        assert await page.evaluate(TAPS) == {"said": ["left", None, "right"], "owing": True, "held": None}


async def test_viewers_may_use_full_screen_and_nothing_else(browser: Browser, server: Subject) -> None:
    async with opened(browser, f"{server.target.base}?watch") as page:
        await live(page)
        await page.hover("[data-part=frame]")
        assert await page.is_visible("[data-part=fullscreen]")
        assert not await page.is_visible("[data-part=pause]")


async def test_a_note_does_not_end_the_wait_for_a_place(browser: Browser, server: Subject) -> None:
    async with opened(browser, server.target.base) as page:
        await live(page)

        async def full(route: Route) -> None:
            problem = {"code": "full", "message": "no room", "field": None}
            await route.fulfill(status=503, json=problem, headers={"Retry-After": "30"})

        await page.route("**/v1/sessions", full)
        await page.click("#new-private")
        await reads(page, "#toast", "All places on this server are taken")
        await page.set_input_files("#file", {"name": "x.png", "mimeType": "image/png", "buffer": b"no"})
        await reads(page, "#toast", "x.png")
        await reads(page, "#toast", "Trying again in")
        await reads(page, "#toast", "All places on this server are taken")
        await page.click("#toast-stop")
        assert not await page.is_visible("#toast")
