"""A player in Chromium restarts ICE by WHEP's PATCH, as the draft describes: 30 lines of foreign code."""

from __future__ import annotations

import pytest

from benchmarks.server.subject import Subject

pytest.importorskip("playwright", reason="pip install playwright")
from playwright.async_api import Browser

from tests.rigs.server import browser_rig
from tests.rigs.server.browser_rig import opened, until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]
server, browser = browser_rig.server, browser_rig.browser
PLAY = """async (url) => {
  const pc = window.pc = new RTCPeerConnection(), video = document.createElement('video');
  Object.assign(video, {muted: true, autoplay: true});
  document.body.append(video);
  window.frames_ = 0;
  pc.ontrack = ({track}) => {
    video.srcObject = new MediaStream([track]);
    const next = () => { window.frames_ += 1; video.requestVideoFrameCallback(next); };
    video.requestVideoFrameCallback(next);
  };
  pc.addTransceiver('video', {direction: 'recvonly'});
  await pc.setLocalDescription();
  const response = await fetch(url, {
    method: 'POST', headers: {'Content-Type': 'application/sdp'}, body: pc.localDescription.sdp,
  });
  window.resource = response.headers.get('Location');
  window.etag = response.headers.get('ETag');
  window.answer = await response.text();
  await pc.setRemoteDescription({type: 'answer', sdp: window.answer});
}"""
RESTART = r"""async () => {
  await pc.setLocalDescription(await pc.createOffer({iceRestart: true}));
  await new Promise((done) => {
    if (pc.iceGatheringState === 'complete') done();
    pc.onicegatheringstatechange = () => pc.iceGatheringState === 'complete' && done();
  });
  const wanted = /^(m=|a=(mid|ice-ufrag|ice-pwd|candidate|group)[: ]?)/;
  const lines = pc.localDescription.sdp.split('\r\n').filter((line) => wanted.test(line));
  const response = await fetch(window.resource, {
    method: 'PATCH', body: lines.join('\r\n') + '\r\n',
    headers: {'Content-Type': 'application/trickle-ice-sdpfrag', 'If-Match': window.etag},
  });
  const fragment = await response.text();
  const one = (name) => fragment.match(new RegExp(`a=${name}:(.*)`))[1].trim();
  const sdp = window.answer.replace(/a=ice-ufrag:.*/g, 'a=ice-ufrag:' + one('ice-ufrag'))
    .replace(/a=ice-pwd:.*/g, 'a=ice-pwd:' + one('ice-pwd'));
  await pc.setRemoteDescription({type: 'answer', sdp});
  return [response.status, response.headers.get('ETag'), window.etag];
}"""
PAIR = """async () => {
  const stats = await pc.getStats();
  const transport = [...stats.values()].find((s) => s.type === 'transport');
  return [transport.selectedCandidatePairId, transport.iceLocalUsernameFragment, transport.dtlsState];
}"""


async def test_ice_restarts_during_playback_and_the_video_continues(
    browser: Browser, server: Subject
) -> None:
    async with opened(browser, server.target.base + "livez") as page:
        await page.evaluate(PLAY, f"{server.target.base}v1/sessions/main/whep")
        await until(page, "window.frames_", lambda n: n > 10, "frames")
        before = await page.evaluate(PAIR)
        status, etag, old = await page.evaluate(RESTART)
        assert status == 200
        assert etag != old
        await until(page, f"({PAIR})()", lambda now: now[1] != before[1], "a new ICE session")
        shown = await page.evaluate("window.frames_")
        await until(page, "window.frames_", lambda n: n > shown + 20, "frames after the restart")
        after = await page.evaluate(PAIR)
        assert after[0] != before[0]
        assert after[2] == "connected"
