"""In a real Chromium: server and worker are killed, and restored from before the page's latest controls."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.server.subject import Subject

pytest.importorskip("playwright", reason="pip install playwright")
from playwright.async_api import Browser

from tests.rigs.server import browser_rig
from tests.rigs.server.browser_rig import (
    FAKE,
    chromium,
    live,
    moved,
    opened,
    say,
    shown,
    sky,
    still,
    stripes,
    until,
)
from tests.rigs.storage.restorable import Restorable
from tests.rigs.waiting import LONG_S
from tests.rigs.waiting import until as until_here

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]
server, browser = browser_rig.server, browser_rig.browser

CHOSEN = """async ([entries, lost, now]) => {
  const {Losses, toSendAgain} = await import('/js/steering/lost.js');
  const losses = new Losses();
  const told = [[], [8, 16], [8, 16], [20, 30]].map((frames) => losses.news({lost_frames: frames}));
  const full = entries.map((entry) => ({control: {}, frame: null, sentAt: 0, status: 'applied', ...entry}));
  losses.ended({code: 'moved'});
  losses.ended({lost_frames: [5, 9]});
  for (const frames of [[20, 30], [20, 30]]) told.push(losses.news({lost_frames: frames}));
  return {told, ids: toSendAgain(full, lost, now).map(({id}) => id)};
}"""
ENTRIES: list[dict[str, Any]] = [
    {"id": "early", "kind": "prompt", "frame": 99},
    {"id": "first", "kind": "prompt", "frame": 100},
    {"id": "left", "kind": "action", "frame": 110},
    {"id": "rewound", "kind": "rewind", "frame": 120},
    {"id": "back", "kind": "rewind", "status": "received"},
    {"id": "pause", "kind": "pause", "frame": 120},
    {"id": "resume", "kind": "resume", "frame": 120},
    {"id": "released", "kind": "action", "frame": 120},
    {"id": "refused", "kind": "prompt", "status": "rejected"},
    {"id": "other", "kind": "prompt", "frame": 150, "control": None},  # of another session
    {"id": "sent", "kind": "prompt", "status": "sent"},
    {"id": "last", "kind": "prompt", "frame": 199},
    {"id": "after", "kind": "prompt", "frame": 200},
]


async def test_what_may_be_lost_is_chosen_as_by_other_clients(browser: Browser, server: Subject) -> None:
    async with opened(browser, server.target.base) as page:
        chosen = await page.evaluate(CHOSEN, [ENTRIES, [100, 200], 1000])
        assert chosen["told"] == [None, [8, 16], None, [20, 30], [5, 9], None]
        assert chosen["ids"] == ["first", "back", "resume", "released", "sent", "last"]
        old = await page.evaluate(CHOSEN, [ENTRIES, [100, 200], 300_001])
        assert old["ids"] == []


REFUSING = """(() => {
  window.refused = [];
  const send = RTCDataChannel.prototype.send;
  RTCDataChannel.prototype.send = function (text) {
    const {id, type} = JSON.parse(text);
    if (type === 'ping' || !window.full) return send.call(this, text);
    window.refused.push(id);
    const why = {code: 'full', message: 'it waits', retry_after_s: 1};
    const data = JSON.stringify({type: 'receipt', id, status: 'rejected', ...why});
    setTimeout(() => this.onmessage({data}));
  };
})()"""


async def test_what_is_refused_for_now_is_sent_again(browser: Browser, server: Subject) -> None:
    async with opened(browser, "about:blank") as page:
        await page.add_init_script(REFUSING)
        await page.goto(server.target.base)
        await live(page)
        await page.evaluate("window.full = true")
        for text in ("a blue ball stands still", "a green ball stands still"):
            await page.fill("#prompt", text)
            await page.press("#prompt", "Enter")
        await until(page, "window.refused", lambda ids: len(ids) > 2, "a second try", LONG_S)
        assert (await page.evaluate("psistream.lastReceipt"))["status"] == "sent"
        await page.evaluate("window.full = false")
        last = await until(
            page, "psistream.lastReceipt", lambda r: r["status"] == "applied", "its effect", LONG_S
        )
        assert last["text"] == "a green ball stands still", "the older one came before it"
        await shown(page, 18)
        green = await sky(page)
        assert green[1] > 1.2 * green[2], green


@pytest.mark.slow
async def test_the_page_sends_again_what_a_restored_server_has_lost(tmp_path: Path) -> None:
    """A prompt, and the release of a key that was held at the moment to which the server went back."""
    place = Restorable(tmp_path, *FAKE)
    async with chromium() as own, AsyncExitStack() as pages:
        with place.running() as server:
            page = await pages.enter_async_context(opened(own, server.target.base))
            await live(page)
            kept = await say(page, "a blue ball stands still")
            start = await stripes(page)
            await page.keyboard.down("ArrowRight")
            await moved(page, start)
            await until_here(lambda: place.contains(kept["id"]) and held(place), "a save", LONG_S)
            place.remember()
            await page.keyboard.up("ArrowRight")
            lost = await say(page, "a green ball stands still")
            await shown(page, 18)
            assert await still(page)
        place.go_back()
        with place.running() as server:
            first, after = await lost_frames(server)
            assert kept["frame"] < first <= lost["frame"] < after
            again = await until(
                page,
                "psistream.lastReceipt",
                lambda r: (r["frame"] or 0) >= after and r["onScreenMs"] is not None,
                "the prompt's effect",
                LONG_S,
            )
            assert again["id"] == lost["id"]
            await shown(page, 18)
            green = await sky(page)
            assert green[1] > 1.2 * green[2], green
            assert await still(page), "the key was released"
            log = await asyncio.to_thread(place.log, server)
            assert log.count(lost["id"]) == 1
            assert kept["id"] not in log


def held(place: Restorable) -> bool:
    saved = place.saved()
    return saved is not None and saved.info.action == "right"


async def lost_frames(server: Subject) -> tuple[int, int]:
    async with asyncio.timeout(LONG_S), httpx.AsyncClient(trust_env=False) as http:
        while True:
            match (await http.get(server.target.path)).json():
                case {"lost_frames": [first, after]}:
                    return first, after
            await asyncio.sleep(0.05)
