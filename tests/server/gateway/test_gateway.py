"""The gateway without a device: answers to clients, dead workers, and what is forgotten when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.errors import Forbidden, Full, InvalidInput, ModelFilesError, Unavailable, UnknownSession
from engine.types import Control, OpenSession, Pause, Receipt, SessionClosed, SessionInfo, Stall
from server.control.base import SessionEvent
from server.gateway.fleet.supervisor import restart_delay_s
from server.gateway.gateway import Gateway
from server.metrics import Metrics
from server.worker.base import Applied, Event
from server.worker.messages.commands import Command
from server.worker.messages.events import SegmentStats, Stalled, WorkerReady
from tests.rigs.engine.fakes import ManualClock
from tests.rigs.server.server_rig import FakeWorker, applied, config, gateway, join, until

PAUSE = Control("c1", Pause())


async def test_the_shared_session_is_open_from_the_start_and_needs_no_token_on_loopback() -> None:
    async with gateway() as (gate, workers, _):
        assert gate.session_ids() == ["main"]
        assert gate.session("main").token is None
        assert workers[0].commands == [OpenSession("main", "a red cat", 7, None)]


async def test_beyond_loopback_even_the_shared_session_has_tokens() -> None:
    async with gateway(host="0.0.0.0") as (gate, _, _):
        session = gate.session("main")
        assert session.token
        assert session.view_token
        assert session.token != session.view_token


async def test_a_control_is_received_then_applied() -> None:
    async with gateway() as (gate, workers, heard):
        assert gate.submit("main", PAUSE) == Receipt("main", "c1", "received")
        workers[0].tell(applied("main", "c1"))
        assert heard == [applied("main", "c1")]


async def test_an_id_is_answered_once_and_has_one_effect() -> None:
    """MQTT delivers at least once, and people press keys twice."""
    async with gateway() as (gate, workers, _):
        gate.submit("main", PAUSE)
        assert gate.submit("main", PAUSE).status == "received"
        workers[0].tell(applied("main", "c1"))
        again = gate.submit("main", replace(PAUSE, expires_s=5.0))
        assert again == applied("main", "c1")
        assert workers[0].submitted() == [PAUSE]


async def test_a_control_for_an_overloaded_worker_may_be_retried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def busy(command: Command) -> None:
        raise Unavailable("the worker is overloaded; try again in a moment")

    async with gateway() as (gate, workers, _):
        with monkeypatch.context() as patch:
            patch.setattr(workers[0], "send", busy)
            with pytest.raises(Unavailable) as refused:
                gate.submit("main", PAUSE)
            assert refused.value.retry_after_s is not None
        assert gate.submit("main", PAUSE).status == "received"


async def test_answers_are_remembered_for_a_bounded_number_of_ids() -> None:
    async with gateway() as (gate, _, _):
        for i in range(1500):
            gate.submit("main", Control(f"c{i}", Pause()))
        session = gate.session("main")
        assert len(session.answers) == 1024
        assert len(session.received_s) == 1024
        assert "c1499" in session.answers


async def test_an_applied_receipt_brings_the_media_time_of_its_frame() -> None:
    async with gateway() as (gate, workers, heard):
        workers[0].tell(Applied(applied("main", "c1", frame=24), 135_000))
        assert gate.session("main").pts_of(24) == 135_000
        assert gate.session("main").pts_of(25) is None
        assert heard == [applied("main", "c1", frame=24)]


async def test_sessions_have_their_own_tokens_and_places_are_limited() -> None:
    async with gateway() as (gate, _, _):
        one, two = await gate.open("one"), await gate.open("two", seed=5)
        assert len({one.id, two.id, one.token, two.token, one.view_token, two.view_token}) == 6
        assert two.info.seed == 5
        with pytest.raises(Full, match="all 3 sessions"):
            await gate.open("three")
        await gate.close_session(one.id)
        await gate.open("four")


async def test_a_refusal_of_the_worker_reaches_the_client() -> None:
    async with gateway() as (gate, workers, _):
        workers[0].open_answer = lambda command: SessionClosed(command.session, "invalid", "too odd")
        with pytest.raises(InvalidInput, match="too odd"):
            await gate.open("odd")
        assert gate.session_ids() == ["main"]


async def test_a_worker_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gateway.opening.OPEN_TIMEOUT_S", 0.02)
    async with gateway() as (gate, workers, _):
        workers[0].mute = True
        with pytest.raises(Unavailable, match="did not answer"):
            await gate.open("patience")
        assert gate.session_ids() == ["main"]


async def test_the_shared_session_cannot_be_closed() -> None:
    async with gateway() as (gate, _, _):
        with pytest.raises(Forbidden, match="main is shared"):
            await gate.close_session("main")
        with pytest.raises(UnknownSession):
            await gate.close_session("nobody")


async def test_a_shared_session_that_breaks_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gateway.upkeep.EVERY_S", 0.005)
    async with gateway() as (gate, workers, heard):
        workers[0].tell(SessionClosed("main", "backend", "the model's numbers ran away"))
        assert gate.session_ids() == []
        await until(lambda: gate.session_ids() == ["main"], "shared session")
        assert heard[0] == SessionClosed("main", "backend", "the model's numbers ran away")


async def test_a_worker_that_keeps_dying_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    async with gateway(restart_limit=2) as (gate, workers, heard):
        for number in (1, 2):
            workers[-1].die()
            await until(lambda n=number: len(workers) == n + 1 and gate.ready, "replacement")  # type: ignore[misc]
        workers[-1].die()
        await until(lambda: "gave up after 2 restarts" in (gate.fault or ""), "resignation")
        assert len(workers) == 3
        assert gate.given_up
        assert caplog.text.count("starting another worker") == 2  # none after the third death
        assert gate.session_ids() == []
        assert [(e.session, e.code) for e in heard if isinstance(e, SessionClosed)] == [
            ("main", "worker_lost")
        ]


def test_restarts_wait_longer_each_time_within_a_limit() -> None:
    assert [restart_delay_s(i) for i in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


async def test_a_server_whose_model_cannot_be_loaded_does_not_start() -> None:
    class Broken(FakeWorker):
        async def start(self) -> WorkerReady:
            raise ModelFilesError("model.onnx is missing")

    made: list[FakeWorker] = []
    with pytest.raises(ModelFilesError, match=r"model\.onnx"):
        async with Gateway(config(), lambda on_event: Broken(on_event, made), Metrics()):
            raise AssertionError("it started")
    assert made[0].closed


async def test_a_failing_listener_does_not_affect_the_others() -> None:
    async with gateway() as (gate, workers, heard):

        def bad(event: SessionEvent) -> None:
            raise ValueError("mine")

        gate.listen(bad)
        late: list[SessionEvent] = []
        stop = gate.listen(late.append)
        workers[0].tell(applied("main", "c1"))
        stop()
        stop()
        workers[0].tell(applied("main", "c2"))
        assert [e.id for e in late if isinstance(e, Receipt)] == ["c1"]
        assert len(heard) == 2


async def test_info_follows_the_segments_that_are_shown() -> None:
    async with gateway() as (gate, workers, _):
        workers[0].tell(SegmentStats("main", 1, 9, 72, {"total": 5.0}, 10.0, 1, 0, 1000, 0.5))
        info = gate.info("main")
        assert (info.segment, info.frame, info.epoch, info.viewers) == (9, 72, 1, 0)


async def test_events_of_sessions_that_are_gone_are_ignored() -> None:
    async with gateway() as (_, workers, heard):
        ghost = "ghost"
        events: list[Event] = [
            applied(ghost, "c"),
            SessionInfo(ghost, "", 0, False, None, 0, 0, 0, 0),
            SegmentStats(ghost, 0, 0, 0, {}, 0.0, 0, 0, 0, 0.0),
            Stalled(ghost, Stall(0.1, 0.4, 9.0)),
            SessionClosed(ghost, "closed", ""),
        ]
        for event in events:
            workers[0].tell(event)
        assert heard == []


async def test_idle_sessions_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gateway.upkeep.EVERY_S", 0.02)
    async with gateway(session_idle_s=0.05) as (gate, _, heard):
        mine = await gate.open("mine")
        await until(lambda: gate.session_ids() == ["main"], "end of a forgotten session")
        assert SessionClosed(mine.id, "idle", "nobody has watched or steered it for a while") in heard


async def test_a_watched_session_that_stalls_is_overdue() -> None:
    clock = ManualClock()
    async with gateway(clock) as (gate, workers, _):
        assert gate.overdue() == []
        join(gate.session("main").fanout)
        assert gate.overdue() == []
        clock.advance(2.1)
        assert gate.overdue() == ["main"]
        workers[0].tell(SessionInfo("main", "", 0, True, None, 0, 0, 0, 0))
        assert gate.overdue() == []  # paused


async def test_a_stall_is_reported_with_the_remaining_time() -> None:
    clock = ManualClock()
    async with gateway(clock) as (gate, workers, heard):
        workers[0].tell(Stalled("main", Stall(0.04, 0.2, 30.0)))
        clock.advance(12.0)
        assert gate.info("main").buffering == Stall(0.04, 0.2, 18.0)
        clock.advance(60.0)  # it takes longer than expected
        assert gate.info("main").buffering == Stall(0.04, 0.2, 0.0)
        assert _figure(gate, "psistream_sessions_buffering") == 1
        workers[0].tell(Stalled("main", None))
        assert gate.info("main").buffering is None
        assert _figure(gate, "psistream_sessions_buffering") == 0
        told = [e.buffering for e in heard if isinstance(e, SessionInfo)]
        assert told == [Stall(0.04, 0.2, 30.0), None]


async def test_the_remaining_time_is_sent_repeatedly(monkeypatch: pytest.MonkeyPatch) -> None:
    """MQTT's retained state must not announce a time that has passed."""
    monkeypatch.setattr("server.gateway.upkeep.EVERY_S", 0.01)
    async with gateway() as (_, workers, heard):
        workers[0].tell(Stalled("main", Stall(0.04, 0.2, 30.0)))
        await until(lambda: len(heard) >= 4, "reminders")
        left_s = [e.buffering.resumes_in_s for e in heard if isinstance(e, SessionInfo) and e.buffering]
        assert left_s == sorted(left_s, reverse=True)
        assert left_s[-1] < left_s[0]


async def test_a_slow_device_is_not_taken_for_one_that_hangs() -> None:
    clock = ManualClock()
    async with gateway(clock) as (gate, workers, _):
        join(gate.session("main").fanout)
        workers[0].tell(Stalled("main", Stall(0.01, 0.2, 60.0)))
        clock.advance(65.0)
        assert gate.overdue() == []
        workers[0].tell(SegmentStats("main", 0, 1, 8, {}, -1.0, 1, 0, 1000, 0.5, speed=0.01, rate=0.02))
        clock.advance(120.0)  # its 8 frames play for 25 s; the next ones usually take 50 s
        assert gate.overdue() == []
        clock.advance(10.0)
        assert gate.overdue() == ["main"]


def _figure(gate: Gateway, name: str) -> float | None:
    return gate.metrics.registry.get_sample_value(name)


async def test_stopping_tells_everybody() -> None:
    async with gateway() as (_, workers, heard):
        pass
    assert heard == [SessionClosed("main", "closed", "the server is stopping")]
    assert workers[0].closed


async def test_sleeping_sessions_are_counted_separately(monkeypatch: pytest.MonkeyPatch) -> None:
    """Capacity counts playing sessions only, so more sessions may be open."""
    monkeypatch.setattr("server.gateway.upkeep.EVERY_S", 0.01)
    async with gateway() as (gate, workers, _):
        await gate.open("mine")
        join(gate.session("main").fanout)
        await until(lambda: _figure(gate, "psistream_sessions_asleep") == 1, "one that nobody watches")
        workers[0].tell(SessionInfo("main", "", 0, True, None, 0, 0, 0, 0))
        await until(lambda: _figure(gate, "psistream_sessions_asleep") == 2, "one that is paused")
        assert _figure(gate, "psistream_sessions") == 2
