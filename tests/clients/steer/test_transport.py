"""A steered session while its connection loses controls, breaks, or is never established."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from clients.steer import Refused, SteeredSession, SteerError, SteerTimeout
from clients.steer.transport import Control, Disconnected, Hear, Queue, end, first_of
from tests.rigs.waiting import LONG_S, until


class Scripted:
    """A transport that loses controls: it answers only the n-th attempt."""

    shown, ask_again_s = "nowhere", 0.05

    def __init__(self, answers_at: int) -> None:
        self.posted: list[Control] = []
        self._answers_at = answers_at
        self._hear: Hear | None = None

    def post(self, control: Control) -> None:
        self.posted.append(control)
        same = [each for each in self.posted if each["id"] == control["id"]]
        if len(same) >= self._answers_at and self._hear is not None:
            self._hear("receipt", {"id": control["id"], "status": "applied", "segment": 1, "frame": 8})

    async def converse(self, hear: Hear, connected: Callable[[], None]) -> None:
        self._hear = hear
        connected()
        hear("state", {"prompt": "a fox"})
        await asyncio.Event().wait()


async def test_a_control_without_receipt_is_sent_again_with_the_same_id() -> None:
    way = Scripted(answers_at=3)
    async with SteeredSession(way) as session:
        await session.pause().applied(5)
    assert len(way.posted) == 3
    assert len({control["id"] for control in way.posted}) == 1


async def test_an_older_action_is_not_sent_again_after_a_newer_one() -> None:
    way = Scripted(answers_at=2)
    async with SteeredSession(way) as session:
        old = session.action("left")
        await session.action(None).applied(5)
        assert [control["action"] for control in way.posted] == ["left", None, None]
        with pytest.raises(SteerTimeout, match="action was not applied within 0"):
            await old.applied(0.2)


class Broken:
    """A transport whose first attempts find no server, and whose next connections break when a control is
    sent."""

    shown, ask_again_s = "nowhere", 9.0

    def __init__(self, *, vain: int = 0, breaks: int = 0) -> None:
        self.attempts, self._vain, self._breaks = 0, vain, breaks
        self._queue = Queue()

    def post(self, control: Control) -> None:
        self._queue.put(control)

    async def converse(self, hear: Hear, connected: Callable[[], None]) -> None:
        self.attempts += 1
        if self.attempts <= self._vain:
            raise Disconnected("nobody is there")

        async def send(control: Control) -> None:
            if self.attempts <= self._vain + self._breaks:
                raise Disconnected("the cable was pulled")
            hear("receipt", {"id": control["id"], "status": "applied", "segment": 1, "frame": 8})

        connected()
        hear("state", {"prompt": "a fox"})
        await self._queue.send_all(send)


async def test_a_control_whose_connection_broke_is_sent_on_the_next_one() -> None:
    way = Broken(breaks=1)
    async with SteeredSession(way) as session:
        await session.pause().applied()
    assert way.attempts == 2


async def test_a_failed_first_connection_is_explained() -> None:
    with pytest.raises(SteerError, match="nobody is there"):
        await SteeredSession(Broken(vain=1)).__aenter__()


async def test_a_listeners_error_is_raised_at_the_end() -> None:
    def fail(kind: str, message: dict[str, Any]) -> None:
        if kind == "receipt":
            raise KeyError("a bug in the game")

    async def play() -> None:
        async with SteeredSession(Broken()) as session:
            session.listen(fail)
            await session.pause().applied()

    with pytest.raises(KeyError, match="a bug in the game"):
        await play()


async def fail(error: Exception) -> None:
    raise error


async def fail_when_ended(error: Exception) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise error


@pytest.mark.parametrize("loser", [fail, fail_when_ended])
@pytest.mark.parametrize("winner", [OSError("gone"), Disconnected("gone")])
async def test_a_listeners_error_is_raised_even_if_the_connection_ends_first(
    loser: Callable[[Exception], Coroutine[Any, Any, None]], winner: Exception
) -> None:
    with pytest.raises(KeyError, match="listener"):
        await first_of(OSError, send=fail(winner), receive=loser(KeyError("listener")))


async def test_two_errors_are_raised_as_one_that_names_the_other() -> None:
    with pytest.raises(KeyError, match="one") as raised:
        await first_of(OSError, receive=fail(KeyError("one")), states=fail(ValueError("two")))
    assert raised.value.__notes__ == ["at the same time: ValueError('two')"]


async def test_how_a_connection_that_ended_is_taken_down_is_no_error() -> None:
    await first_of(OSError, check=asyncio.sleep(0), receive=fail_when_ended(OSError("gone")))


async def test_a_listeners_error_outlives_a_cancellation() -> None:
    task = asyncio.create_task(first_of(OSError, receive=fail_when_ended(KeyError("listener"))))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [repr(error) for error in await end(task)] == ["KeyError('listener')"]


class Waiting:
    """A session that waits for a place, until `there`: controls are refused for now, as over MQTT."""

    shown, ask_again_s = "nowhere", 60.0

    def __init__(self, retry_after_s: int = 0) -> None:
        self.taken: list[Control] = []
        self.refused: list[Control] = []
        self.there, self._retry_after_s = False, retry_after_s

    def post(self, control: Control) -> None:
        (self.taken if self.there else self.refused).append(control)
        answer = {"id": control["id"], "status": "applied", "segment": 1, "frame": 8}
        if not self.there:
            answer |= {"status": "rejected", "code": "full", "retry_after_s": self._retry_after_s}
        asyncio.get_running_loop().call_soon(self.hear, "receipt", answer)

    async def converse(self, hear: Hear, connected: Callable[[], None]) -> None:
        self.hear = hear
        connected()
        hear("state", {"prompt": "a fox"})
        await asyncio.Event().wait()


async def test_what_is_refused_for_now_is_kept_and_sent_again_in_order() -> None:
    way = Waiting()
    async with SteeredSession(way) as session:
        sent = [session.prompt("a dog"), session.action("left"), session.action(None)]
        await until(lambda: len(way.refused) > 6, "more tries")
        way.there = True
        for each in (sent[0], sent[2]):
            assert (await each.applied(LONG_S)).status == "applied"
    assert [control["id"] for control in way.taken] == [sent[0].id, sent[2].id], "an older action is left out"


async def test_nothing_overtakes_what_waits_and_a_state_ends_the_wait() -> None:
    way = Waiting(retry_after_s=1000)
    async with SteeredSession(way) as session:
        first = session.prompt("a dog")
        await until(lambda: way.refused, "the refusal")
        await asyncio.sleep(0)
        second = session.prompt("a cat")
        assert [control["id"] for control in way.refused] == [first.id]
        way.there = True
        way.hear("state", {"prompt": "a fox"})  # the session has its place
        await second.applied(LONG_S)
    assert [control["id"] for control in way.taken] == [first.id, second.id]


async def test_a_control_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clients.steer.session.WITHIN_S", -1.0)
    async with SteeredSession(Waiting()) as session:
        with pytest.raises(Refused, match="full"):
            await session.pause().applied(LONG_S)
