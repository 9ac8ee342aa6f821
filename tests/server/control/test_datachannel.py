"""One viewer's data channel: answers, rights, limits; one test uses a real aiortc connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from aiortc import RTCDataChannel, RTCPeerConnection

from engine.errors import Unavailable, UnknownSession
from engine.types import Action, Pause, Prompt, Receipt
from server.control.datachannel import BUFFER_BYTES, BURST, Channel, DataChannelControl
from tests.rigs.control.gateway import FakeSteering, segment_stats, session_info
from tests.rigs.engine.fakes import ManualClock
from tests.rigs.waiting import until


class FakeChannel:
    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.readyState = "open"
        self.bufferedAmount = 0
        self.broken = False
        self._handlers: dict[str, Callable[..., Any]] = {}

    def send(self, data: str) -> None:
        if self.broken:
            raise ConnectionError("gone")
        self.sent.append(json.loads(data))

    def on(self, event: str, f: Callable[..., Any]) -> Any:
        self._handlers[event] = f

    def say(self, message: Any) -> None:
        self._handlers["message"](message if isinstance(message, str | bytes) else json.dumps(message))

    def end(self) -> None:
        self._handlers["close"]()

    def take(self) -> list[dict[str, Any]]:
        taken, self.sent = self.sent, []
        return taken


class Seat:
    """A viewer of session `main`."""

    def __init__(self, *, may_steer: bool = True, session: str = "main") -> None:
        self.clock = ManualClock()
        self.channel = FakeChannel()
        self.steering = FakeSteering("main", "other", applies=False)
        self.control = DataChannelControl(
            self.channel,
            self.steering,
            session,
            may_steer=may_steer,
            pts_of={32: 180_000}.get,
            clock=self.clock,
        )


def test_the_session_event_is_sent_at_once() -> None:
    seat = Seat()
    assert [message["type"] for message in seat.channel.take()] == ["session"]
    seat.control.send_clock(5)
    assert seat.channel.take() == [{"type": "clock", "rtp_offset": 5, "clock_rate": 90_000}]


def test_a_control_is_received_then_applied() -> None:
    seat = Seat()
    seat.channel.take()
    seat.channel.say({"id": "p", "type": "prompt", "text": "a fox"})
    seat.steering.apply(*seat.steering.controls[0])
    received, applied, session = seat.channel.take()
    assert (received["type"], received["id"], received["status"]) == ("receipt", "p", "received")
    assert (applied["status"], applied["frame"], applied["pts_90k"]) == ("applied", 32, 180_000)
    assert session["prompt"] == "a fox"
    assert seat.steering.controls[0][1].body == Prompt("a fox")


def test_events_of_other_sessions_are_not_sent() -> None:
    seat = Seat()
    seat.channel.take()
    seat.steering.emit(session_info("other"))
    seat.steering.emit(segment_stats("other"))
    seat.steering.emit(Receipt("other", "x", "applied", 1, 8))
    seat.steering.close("other")
    assert seat.channel.take() == []


def test_ping_is_answered_for_viewers_too() -> None:
    seat = Seat(may_steer=False)
    seat.channel.take()
    seat.channel.say({"type": "ping", "id": "1"})
    seat.channel.say({"type": "ping", "id": "1", "time": 5})
    seat.channel.say({"id": "a", "type": "pause"})
    pong, error, receipt = seat.channel.take()
    assert pong == {"type": "pong", "id": "1"}
    assert (error["code"], error["field"]) == ("invalid", "time")
    assert (receipt["id"], receipt["status"], receipt["code"]) == ("a", "rejected", "forbidden")
    assert seat.steering.controls == []


@pytest.mark.parametrize(
    ("raw", "kind", "field"),
    [
        ("{", "error", "message"),
        ("[" * 15_000, "error", "message"),
        ("x" * 1_000_000, "error", "message"),
        (b'{"type": "pause"}', "error", "message"),
        ({"type": "prompt"}, "error", "text"),
        ({"type": "prompt", "id": "a"}, "receipt", "text"),
        ({"type": "prompt", "id": "a", "text": 1}, "receipt", "text"),
        ({"type": "prompt", "id": 5, "text": "x"}, "error", "id"),
        ({"type": "image", "id": "a", "data": "AAAA"}, "receipt", "type"),
    ],
)
def test_a_bad_message_is_answered_and_the_channel_lives_on(raw: Any, kind: str, field: str) -> None:
    seat = Seat()
    seat.channel.take()
    seat.channel.say(raw)
    (answer,) = seat.channel.take()
    assert (answer["type"], answer["code"], answer["field"]) == (kind, "invalid", field)
    assert answer.get("id") == ("a" if kind == "receipt" else None)
    seat.channel.say({"type": "pause"})
    assert seat.steering.controls[0][1].body == Pause()


def test_faults_of_the_gateway_do_not_reach_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    seat = Seat()
    seat.channel.take()
    seat.steering.error = RuntimeError("boom")
    seat.channel.say({"type": "pause"})
    (answer,) = seat.channel.take()
    assert (answer["type"], answer["code"]) == ("error", "internal")
    assert "boom" not in answer["message"]
    assert "session main" in caplog.text


def test_a_flood_is_limited_and_passes() -> None:
    seat = Seat()
    seat.channel.take()
    for number in range(10 * BURST):
        seat.channel.say({"id": f"k{number}", "type": "action", "action": "left"})
    answers = seat.channel.take()
    refused = [answer for answer in answers if answer["status"] == "rejected"]
    assert len(answers) - len(refused) == BURST == len(seat.steering.controls)
    assert 1 <= len(refused) <= 20
    assert {answer["code"] for answer in refused} == {"rate_limited"}
    seat.clock.advance(1.0)
    seat.channel.say({"id": "late", "type": "action", "action": "right"})
    assert seat.channel.take()[0]["status"] == "received"


def test_a_viewer_that_does_not_read_loses_figures_first() -> None:
    seat = Seat()
    seat.channel.take()
    seat.channel.bufferedAmount = BUFFER_BYTES // 2
    seat.steering.emit(segment_stats())
    seat.steering.emit(Receipt("main", "a", "applied", 1, 8))
    assert [message["type"] for message in seat.channel.take()] == ["receipt"]
    seat.channel.bufferedAmount = 2 * BUFFER_BYTES
    seat.steering.emit(Receipt("main", "b", "applied", 1, 8))
    assert seat.channel.take() == []
    assert seat.control.dropped_total == 2


def test_a_channel_that_closes_or_breaks_raises_nothing_and_is_forgotten() -> None:
    seat = Seat()
    seat.channel.broken = True
    seat.steering.emit(segment_stats())
    seat.channel.readyState = "closed"
    seat.channel.say({"type": "pause"})
    seat.channel.end()
    seat.control.close()
    assert seat.steering.listeners == 0


def test_the_end_of_the_session_is_sent() -> None:
    seat = Seat()
    seat.channel.take()
    seat.steering.close("main")
    (closed,) = seat.channel.take()
    assert (closed["type"], closed["code"]) == ("closed", "closed")
    assert seat.steering.listeners == 0
    late = Seat(session="gone")
    assert [(m["type"], m["code"]) for m in late.channel.take()] == [("closed", "unknown_session")]
    assert late.steering.listeners == 0


async def test_over_a_real_connection() -> None:
    """aiortc's channel has the members of `Channel`, and messages pass in both directions."""
    steering = FakeSteering()
    server, viewer = RTCPeerConnection(), RTCPeerConnection()
    controls: list[DataChannelControl] = []

    def opened(channel: RTCDataChannel) -> None:
        typed: Channel = channel
        controls.append(DataChannelControl(typed, steering, "main", may_steer=True))

    server.on("datachannel", opened)
    heard: list[dict[str, Any]] = []
    channel = viewer.createDataChannel("control")
    channel.on("message", lambda text: heard.append(json.loads(text)))
    try:
        await viewer.setLocalDescription(await viewer.createOffer())
        await server.setRemoteDescription(viewer.localDescription)
        await server.setLocalDescription(await server.createAnswer())
        await viewer.setRemoteDescription(server.localDescription)
        await until(lambda: heard, "the session")
        channel.send('{"id": "k", "type": "action", "action": "jump"}')
        await until(lambda: any(m.get("status") == "applied" for m in heard), "applied")
        assert steering.controls[0][1].body == Action("jump")
    finally:
        await asyncio.gather(server.close(), viewer.close())
    await until(lambda: steering.listeners == 0, "the listener is gone")


async def test_a_viewer_that_vanishes_releases_its_action() -> None:
    """Otherwise the hero would walk forever for no visible reason."""
    seat = Seat()
    seat.channel.say({"id": "1", "type": "action", "action": "right"})
    seat.channel.end()
    assert [control.body for _, control in seat.steering.controls] == [Action("right"), Action(None)]
    seat.channel.end()
    assert len(seat.steering.controls) == 2


async def test_a_viewer_without_a_held_action_releases_nothing() -> None:
    seat = Seat()
    seat.channel.say({"id": "1", "type": "action", "action": "right"})
    seat.channel.say({"id": "2", "type": "action", "action": None})
    seat.channel.end()
    assert len(seat.steering.controls) == 2


def test_a_control_for_a_session_that_waits_for_a_place_is_refused_for_now() -> None:
    """The refusal says when to retry, and the same id counts then. HTTP said so alone."""
    seat = Seat()
    seat.channel.take()
    seat.steering.waiting.add("main")
    seat.channel.say({"id": "p", "type": "prompt", "text": "a fox"})
    seat.channel.say({"type": "pause"})
    refused, error = seat.channel.take()
    assert (refused["status"], refused["code"], refused["retry_after_s"]) == ("rejected", "full", 5)
    assert (error["type"], error["code"], error["retry_after_s"]) == ("error", "full", 5)
    seat.steering.waiting.clear()
    seat.channel.say({"id": "p", "type": "prompt", "text": "a fox"})
    assert seat.channel.take()[0]["status"] == "received"


def test_a_channel_of_a_session_that_waits_opens_and_closes() -> None:
    seat = Seat()
    seat.channel.say({"id": "left", "type": "action", "action": "left"})
    seat.steering.waiting.add("main")
    seat.channel.end()  # the release cannot be sent
    other = FakeChannel()
    DataChannelControl(other, seat.steering, "main", may_steer=True)
    assert [(m["type"], m["retry_after_s"]) for m in other.take()] == [("error", 5)]
    seat.steering.waiting.clear()
    seat.steering.emit(session_info("main"))
    assert [m["type"] for m in other.take()] == ["session"]


@pytest.mark.parametrize("error", [Unavailable("the worker is overloaded"), UnknownSession("gone")])
def test_only_what_may_be_sent_again_says_when(error: Exception) -> None:
    seat = Seat()
    seat.channel.take()
    seat.steering.error = error
    seat.channel.say({"id": "p", "type": "pause"})
    (refused,) = seat.channel.take()
    assert ("retry_after_s" in refused) == isinstance(error, Unavailable)
