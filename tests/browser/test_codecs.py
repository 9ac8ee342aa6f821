"""Chromium plays each codec that this server sends, if its page prefers that codec."""

from __future__ import annotations

import pytest

from benchmarks.server.subject import Subject
from server.codecs import CODECS, NAMES

pytest.importorskip("playwright", reason="pip install playwright")
from playwright.async_api import Browser

from tests.rigs.server import browser_rig
from tests.rigs.server.browser_rig import opened, until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]
server, browser = browser_rig.server, browser_rig.browser
PLAY = """async ([url, name]) => {
  const pc = window.pc = new RTCPeerConnection(), video = document.createElement('video');
  Object.assign(video, {muted: true, autoplay: true});
  document.body.append(video);
  pc.ontrack = ({track}) => { video.srcObject = new MediaStream([track]); };
  const transceiver = pc.addTransceiver('video', {direction: 'recvonly'});
  const known = RTCRtpReceiver.getCapabilities('video').codecs;
  const first = known.filter((codec) => codec.mimeType === 'video/' + name);
  transceiver.setCodecPreferences([...first, ...known.filter((codec) => !first.includes(codec))]);
  await pc.setLocalDescription();
  const response = await fetch(url, {
    method: 'POST', headers: {'Content-Type': 'application/sdp'}, body: pc.localDescription.sdp,
  });
  await pc.setRemoteDescription({type: 'answer', sdp: await response.text()});
}"""
SEEN = """async () => {
  const stats = [...(await pc.getStats()).values()];
  const video = stats.find((s) => s.type === 'inbound-rtp') ?? {};
  const codec = stats.find((s) => s.id === video.codecId) ?? {};
  return [codec.mimeType, video.framesDecoded ?? 0, video.frameWidth, video.packetsLost];
}"""


@pytest.mark.parametrize("codec", CODECS)
async def test_the_codec_that_a_page_prefers_is_played(browser: Browser, server: Subject, codec: str) -> None:
    async with opened(browser, server.target.base + "livez") as page:
        name = NAMES[codec]  # type: ignore[index]
        await page.evaluate(PLAY, [f"{server.target.base}v1/sessions/main/whep", name])
        seen = await until(page, f"({SEEN})()", lambda now: now[1] > 20, f"frames of {name}")
        assert seen[0] == f"video/{name}"
        assert seen[2] == 320
