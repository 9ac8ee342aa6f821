"""Which controls a client sends again to a server that was restored from an earlier moment: plain data."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from clients.steer import SteeredSession
from clients.steer.lost import WITHIN_S, Losses, to_send_again
from clients.steer.transport import Control, Hear
from clients.view.steering import SentControls

LOST = range(100, 200)


@dataclass
class Sent:
    control: dict[str, Any]
    frame: int | None = None
    settled: bool = True
    sent_s: float = 0.0


def prompt(name: str, frame: int | None = None, **fields: Any) -> Sent:
    return Sent({"id": name, "type": "prompt"}, frame, **fields)


def action(name: str, frame: int | None = None) -> Sent:
    return Sent({"id": name, "type": "action"}, frame, frame is not None)


def again(*sent: Sent, now_s: float = 1.0) -> list[str]:
    return [each.control["id"] for each in to_send_again(sent, LOST, now_s)]


def test_what_was_applied_in_lost_frames_or_has_no_final_receipt_is_sent_again_in_order() -> None:
    early, first = prompt("early", 99), prompt("first", 100)
    refused, waits = prompt("refused"), prompt("waits", settled=False)
    last, after = prompt("last", 199), prompt("after", 200)
    assert again(early, first, refused, waits, last, after) == ["first", "waits", "last"]


def test_of_actions_and_of_pauses_only_the_latest_counts() -> None:
    pause, resume = (Sent({"id": kind, "type": kind}, 120) for kind in ("pause", "resume"))
    assert again(pause, action("left", 120), resume, action("none", 128)) == ["resume", "none"]
    assert again(action("left", 120), action("none", 220)) == [], "it was released since"
    assert again(action("left", 120), action("none")) == ["none"]


def test_a_rewind_that_was_done_is_not_done_again() -> None:
    rewind = Sent({"id": "r", "type": "rewind"}, 120)
    assert again(rewind) == []
    assert again(Sent(rewind.control, None, settled=False)) == ["r"]


def test_what_was_sent_long_ago_is_left_alone() -> None:
    assert again(prompt("old", 120), prompt("new", 120, sent_s=1.0), now_s=WITHIN_S + 0.5) == ["new"]


@pytest.mark.parametrize("told", [None, [], "x", [1], [1, "2"], [1, 2, 3], {"a": 1}])
def test_a_session_that_lost_nothing_tells_of_nothing(told: object) -> None:
    losses = Losses()
    assert losses.news({"lost_frames": told}) is None
    assert losses.news({}) is None
    assert losses.news({"lost_frames": [8, 16]}) == range(8, 16)


def test_each_loss_is_told_once() -> None:
    losses = Losses()
    told = [losses.news({"lost_frames": frames}) for frames in ([8, 16], [8, 16], [40, 80], [40, 80])]
    assert told == [range(8, 16), None, range(40, 80), None]


def test_what_another_copy_does_not_have_is_lost_once_it_is_heard_of() -> None:
    losses = Losses()
    losses.ended({"code": "moved"})
    assert losses.news({}) is None
    losses.ended({"code": "fenced", "lost_frames": [8, 16]})
    assert [losses.news({"lost_frames": []}) for _ in range(2)] == [range(8, 16), None]
    losses.ended({"code": "fenced", "lost_frames": [90, 99]})
    losses.ended({"code": "moved"})
    assert losses.news({"lost_frames": [40, 80]}) == range(40, 99)


class Restored:
    """A transport to a server that applies controls at the frames that it is told, and remembers ids."""

    shown, ask_again_s = "nowhere", 0.05

    def __init__(self) -> None:
        self.posted: list[Control] = []
        self.frames: dict[str, int] = {}  # of the controls that it has applied
        self.next_frame = 96
        self.hear: Hear = lambda kind, message: None

    def post(self, control: Control) -> None:
        self.posted.append(control)
        frame = self.frames.setdefault(control["id"], self.next_frame)
        self.hear("receipt", {"id": control["id"], "status": "applied", "segment": 1, "frame": frame})

    async def converse(self, hear: Hear, connected: Callable[[], None]) -> None:
        self.hear = hear
        connected()
        self.say([])
        await asyncio.Event().wait()

    def say(self, lost: list[int]) -> None:
        self.hear("state", {"prompt": "a fox", "lost_frames": lost})

    def restart(self, *known: str) -> None:
        self.frames = {name: self.frames[name] for name in known}
        self.next_frame, self.posted = 200, []


async def test_each_control_is_sent_again_once_and_its_new_receipt_counts() -> None:
    way = Restored()
    async with SteeredSession(way) as session:
        saved, kept = session.prompt("a dog"), session.prompt("a cat")
        way.next_frame = 104
        lost, left, released = session.prompt("a fox"), session.action("left"), session.action(None)
        for sent in (saved, kept, lost, left, released):
            await sent.applied(5)
        way.frames[kept.id] = 104  # was known, though its frame is one of the lost ones
        kept.receipt = lost.receipt
        way.restart(saved.id, kept.id)
        for _ in range(3):  # a server repeats its state
            way.say([100, 200])
        assert [control["id"] for control in way.posted] == [kept.id, lost.id, released.id]
        assert (await lost.applied(5)).frame == (await released.applied(5)).frame == 200
        assert (await kept.applied(5)).frame == 104
        await asyncio.sleep(0.2)  # longer than it waits before it asks again
        assert len(way.posted) == 3
        way.restart()
        way.say([190, 400])
        assert [control["id"] for control in way.posted] == [lost.id, released.id]


async def test_what_was_steered_in_a_copy_that_has_ended_is_sent_again_to_the_other_one() -> None:
    way = Restored()
    async with SteeredSession(way) as session:
        kept = session.prompt("a dog")
        way.next_frame = 104
        lost = session.prompt("a fox")
        way.restart(kept.id)
        way.hear("event", {"type": "closed", "code": "fenced", "message": "…", "lost_frames": [100, 110]})
        assert session.ended is None
        assert way.posted == [], "it is not there yet"
        for _ in range(3):
            way.say([])
        assert [control["id"] for control in way.posted] == [lost.id]
        assert (await lost.applied(5)).frame == 200


async def test_an_action_that_waits_is_not_sent_after_a_newer_one() -> None:
    way = Restored()
    async with SteeredSession(way) as session:
        left, released = session.action("left"), session.action(None)
        receipt = left.receipt
        assert receipt is not None
        left.receipt = type(receipt)(left.id, "received")
        way.restart()
        way.say([90, 200])
        await released.applied(5)
        await asyncio.sleep(0.2)
        assert [control["id"] for control in way.posted] == [released.id]


def test_the_controls_of_view_are_sent_again() -> None:
    steering, sent = SentControls([{"type": "prompt", "text": "a fox"}], lambda: 0.0), list[dict[str, Any]]()

    def send(control: dict[str, Any]) -> str:
        sent.append(control)
        return str(control.get("id", "py-1"))

    def hear(**message: Any) -> list[dict[str, Any]]:
        steering.hear(message)
        return steering.lost(message)

    steering.send(send)
    assert hear(type="receipt", id="py-1", status="applied", segment=13, frame=104) == []
    assert hear(type="session", id="main", lost_frames=[]) == []
    assert hear(type="session", id="main", lost_frames=[104, 200]) == [
        {"id": "py-1", "type": "prompt", "text": "a fox"}
    ]
    assert steering.rows() == [("prompt", "sent again")]
    assert hear(type="session", id="main", lost_frames=[104, 200]) == []
    assert hear(type="receipt", id="py-1", status="applied", segment=25, frame=200) == []
    assert "frame 200" in steering.rows()[0][1]
    assert hear(type="closed", code="fenced", lost_frames=[200, 240]) == []
    assert len(hear(type="session", id="main", lost_frames=[104, 200])) == 1
