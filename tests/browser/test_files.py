"""Chromium plays the files that the server makes of sent video: clips of each codec, and live HLS."""

from __future__ import annotations

import pytest

from benchmarks.server.subject import Subject
from server.codecs import CODECS, NAMES

pytest.importorskip("playwright", reason="pip install playwright")
from playwright.async_api import Browser

from tests.browser.test_codecs import PLAY, SEEN
from tests.rigs.server import browser_rig
from tests.rigs.server.browser_rig import opened, until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]
server, browser = browser_rig.server, browser_rig.browser
PLAYLIST = "application/vnd.apple.mpegurl"
OPEN = """(url) => {
  const file = window.file = document.createElement('video');
  Object.assign(file, {muted: true, autoplay: true, src: url});
  document.body.append(file);
}"""
STREAM = """async (url) => {
  const list = (await (await fetch(url)).text()).split('\\n');
  const name = list.find((line) => line.endsWith('.m4s'));
  const initial = list.find((line) => line.startsWith('#EXT-X-MAP')).match(/URI="([^"]+)"/)[1];
  const file = window.file = document.createElement('video'), source = new MediaSource();
  Object.assign(file, {muted: true, autoplay: true, src: URL.createObjectURL(source)});
  document.body.append(file);
  await new Promise((done) => source.addEventListener('sourceopen', done, {once: true}));
  const buffer = source.addSourceBuffer('video/mp4; codecs="avc1.42c014"');
  for (const part of [initial, name]) {
    buffer.appendBuffer(await (await fetch(new URL(part, url))).arrayBuffer());
    await new Promise((done) => buffer.addEventListener('updateend', done, {once: true}));
  }
  file.currentTime = buffer.buffered.start(0);
}"""
SHOWN = """[file.videoWidth, file.currentTime - (file.buffered.length ? file.buffered.start(0) : 0),
  file.error?.message ?? null]"""


@pytest.mark.parametrize("codec", CODECS)
async def test_a_clip_opens_in_a_video_element(browser: Browser, server: Subject, codec: str) -> None:
    async with opened(browser, server.target.base + "livez") as page:
        base = f"{server.target.base}v1/sessions/main"
        await page.evaluate(PLAY, [f"{base}/whep", NAMES[codec]])  # type: ignore[index]
        await until(page, f"({SEEN})()", lambda now: now[1] > 20, "frames")
        await page.evaluate(OPEN, f"{base}/clip?seconds=5")
        seen = await until(page, SHOWN, lambda now: now[1] > 0.3 or now[2], f"a clip of {codec}")
        assert (seen[0], seen[2]) == (320, None)
        await page.evaluate("pc.close()")


async def test_segments_of_live_hls_play(browser: Browser, server: Subject) -> None:
    """By Media Source Extensions, as HLS players in JavaScript do."""
    async with opened(browser, server.target.base + "livez") as page:
        await page.evaluate(STREAM, f"{server.target.base}v1/sessions/main/hls/index.m3u8")
        seen = await until(page, SHOWN, lambda now: now[1] > 0.3 or now[2], "a segment of HLS")
        assert (seen[0], seen[2]) == (320, None)


async def test_the_playlist_opens_where_the_browser_speaks_hls(browser: Browser, server: Subject) -> None:
    """Chromium does since version 142. It asks for the playlist again as soon as it has loaded all of it, and
    gave up when the second one was the same as the first."""
    async with opened(browser, server.target.base + "livez") as page:
        if await page.evaluate(f"document.createElement('video').canPlayType('{PLAYLIST}')"):
            await page.evaluate(OPEN, f"{server.target.base}v1/sessions/main/hls/index.m3u8")
            seen = await until(page, SHOWN, lambda now: now[1] > 3 or now[2], "live HLS")
            assert (seen[0], seen[2]) == (320, None)
