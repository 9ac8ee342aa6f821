"""Plays a session inside the viewer's namespace and prints when each frame was shown: one line of JSON.

`python -m benchmarks.network.player chromium|page|viewer URL TOKEN SECONDS`: `chromium` is a WHEP client of
30 lines in Chromium, `page` is our page in Chromium, `viewer` is the client of `psistream view`. Times are
seconds since the start, or with a fifth word, `picture`, since the page's first picture.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from typing import Any

from clients.target import Target
from clients.whep import WhepViewer

PICTURE_S = 60.0
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-sync",
]
PLAY = """async ([url, token]) => {
  const pc = new RTCPeerConnection();
  const video = document.createElement('video');
  Object.assign(video, {muted: true, autoplay: true, playsInline: true});
  document.body.append(video);
  window.shown = []; window.rungs = []; window.pc = pc;
  pc.ontrack = e => {
    video.srcObject = new MediaStream([e.track]);
    const next = () => {
      window.shown.push(performance.now() / 1000);
      video.requestVideoFrameCallback(next);
    };
    video.requestVideoFrameCallback(next);
  };
  const channel = pc.createDataChannel('control');
  channel.onmessage = e => {
    const message = JSON.parse(e.data);
    if (message.type === 'link') window.rungs.push([performance.now() / 1000, message]);
  };
  pc.addTransceiver('video', {direction: 'recvonly'});
  await pc.setLocalDescription();
  const headers = {'Content-Type': 'application/sdp', 'Authorization': `Bearer ${token}`};
  const answer = await fetch(url, {method: 'POST', headers, body: pc.localDescription.sdp});
  if (!answer.ok) throw new Error(await answer.text());
  await pc.setRemoteDescription({type: 'answer', sdp: await answer.text()});
}"""
COUNT = """
window.shown = [];
setInterval(() => document.querySelectorAll('video').forEach((video) => {
  if (video.counted) return;
  video.counted = true;
  const next = () => {
    window.shown.push(performance.now() / 1000);
    video.requestVideoFrameCallback(next);
  };
  video.requestVideoFrameCallback(next);
}), 50);
"""
STATS = """async () => {
  for (const report of (await window.pc.getStats()).values())
    if (report.type === 'inbound-rtp') return {
      bytes: report.bytesReceived, freezes: report.totalFreezesDuration, decoded: report.framesDecoded,
      keyframes: report.keyFramesDecoded, nacks: report.nackCount, plis: report.pliCount,
      lost: report.packetsLost, repeated: report.retransmittedPacketsReceived};
}"""


async def chromium(base: str, token: str, seconds: float) -> dict[str, Any]:
    from playwright.async_api import async_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        raise SystemExit("Chromium is not installed: apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=FLAGS)
        page = await browser.new_page()
        await page.goto(f"{base}livez")
        started_s = await page.evaluate("performance.now() / 1000")
        print(json.dumps({"started": time.monotonic()}), flush=True)
        await page.evaluate(PLAY, [f"{base}v1/sessions/main/whep", token])
        await asyncio.sleep(seconds)
        shown = [t - started_s for t in await page.evaluate("window.shown")]
        rungs = [[t - started_s, m] for t, m in await page.evaluate("window.rungs")]
        stats = await page.evaluate(STATS)
        await browser.close()
    return {"shown": shown, "rungs": rungs, "stats": stats}


async def page(base: str, token: str, seconds: float, since: str = "start") -> dict[str, Any]:
    """psistream's own page in Chromium, which reconnects by itself."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        tab = await browser.new_page()
        await tab.add_init_script(COUNT)
        started_s = time.monotonic()
        if since == "start":
            print(json.dumps({"started": started_s}), flush=True)
        await tab.goto(f"{base}?session=main#token={token}")
        if since == "picture":
            await first_picture(tab)
            started_s = time.monotonic()
            print(json.dumps({"started": started_s}), flush=True)
        zero_s = await tab.evaluate("performance.now() / 1000") - (time.monotonic() - started_s)
        await asyncio.sleep(max(0.0, seconds - (time.monotonic() - started_s)))
        shown = [t - zero_s for t in await tab.evaluate("window.shown")]
        await browser.close()
    return {"shown": sorted(shown), "rungs": [], "stats": {}}


async def first_picture(tab: Any) -> None:
    try:
        async with asyncio.timeout(PICTURE_S):
            while not await tab.evaluate("window.shown.length"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise SystemExit(f"the page showed nothing within {PICTURE_S:g} s") from None


async def viewer(base: str, token: str, seconds: float) -> dict[str, Any]:
    shown: list[float] = []
    rungs: list[list[Any]] = []
    started_s = time.monotonic()
    print(json.dumps({"started": started_s}), flush=True)
    player = WhepViewer(Target(base, "main", token))
    player.on_picture = lambda picture: shown.append(time.monotonic() - started_s)

    def receive(message: dict[str, Any]) -> None:
        if message.get("type") == "link":
            rungs.append([time.monotonic() - started_s, message])

    player.on_message = receive
    async with player:
        await asyncio.sleep(max(0.0, seconds - (time.monotonic() - started_s)))
    return {"shown": shown, "rungs": rungs, "stats": {}}


if __name__ == "__main__":
    kind, url, secret, length, *since = sys.argv[1:]
    play = {"chromium": chromium, "page": page, "viewer": viewer}[kind]
    print(json.dumps(asyncio.run(play(url, secret, float(length), *since))), flush=True)
