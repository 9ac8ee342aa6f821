"""The registry's index by worker: it agrees with the sessions themselves, and spares searching them all."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from engine.types import SessionInfo
from server.control.base import SessionEvent
from server.gateway.gateway import Gateway
from server.gateway.registry import Sessions
from server.gateway.session import GatewaySession
from tests.rigs.server.server_rig import FakeWorker, applied, gateway, join, stats, until


def agree(gate: Gateway) -> None:
    """Compare the index and the gauges with a search of all sessions."""
    sessions = list(gate.sessions)
    for name in ("w1", "w2", "w3"):
        mine = [s for s in sessions if s.worker == name]
        assert {s.id for s in gate.sessions.of(name)} == {s.id for s in mine}
        assert gate.sessions.count(name) == len(mine)
        assert gate.sessions.awake(name) == sum(not s.asleep for s in mine)
        assert _gauge(gate, "worker_sessions", worker=name) == len(mine)
    assert _gauge(gate, "sessions") == len(sessions)
    assert _gauge(gate, "sessions_asleep") == sum(s.asleep for s in sessions)
    assert _gauge(gate, "sessions_buffering") == sum(s.buffering is not None for s in sessions)


def _gauge(gate: Gateway, name: str, **labels: str) -> float | None:
    return gate.metrics.registry.get_sample_value(f"psistream_{name}", labels)


async def test_the_index_agrees_with_the_sessions_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions come and go, are watched, left, paused and resumed, and workers die, in a seeded order."""
    monkeypatch.setattr("server.gateway.fleet.supervisor.FIRST_DELAY_S", 0.0)
    dice = random.Random(0)
    async with gateway(workers=3, restart_limit=100, client_sessions=0) as (gate, workers, _):
        viewers = []
        for turn in range(120):
            session = dice.choice([s for s in gate.sessions if s.opened.done()])
            match dice.randrange(6):
                case 0 if len(gate.sessions) < 7:
                    await gate.open("a dog")
                case 1:
                    viewers.append((session, join(session.fanout)))
                case 2 if viewers:
                    left, viewer = viewers.pop(dice.randrange(len(viewers)))
                    left.fanout.leave(viewer)
                case 3:
                    worker = gate.fleet.of(session).worker
                    assert isinstance(worker, FakeWorker)
                    worker.tell(replace(session.info, paused=not session.info.paused))
                case 4 if session.id != "main":
                    await gate.close_session(session.id)
                case 5 if turn % 3 == 0:
                    worker = gate.fleet.of(session).worker
                    assert isinstance(worker, FakeWorker)
                    worker.die()
                    await until(lambda: all(w.ready for w in gate.fleet), "the successor")
            agree(gate)
        assert len(workers) > 5


async def test_losing_a_worker_searches_all_sessions_once_and_not_for_each_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A lost rack used to block the event loop for minutes at 10,000 sessions: a search for each session."""
    searches = 0
    plain = Sessions.__iter__

    def counted(self: Sessions) -> Iterator[GatewaySession]:
        nonlocal searches
        searches += 1
        return plain(self)

    async with gateway(workers=3, max_viewers=100) as (gate, workers, _):
        for _ in range(6):
            join((await gate.open("a dog")).fanout)
        monkeypatch.setattr(Sessions, "__iter__", counted)
        workers[1].die()
        assert [s.worker for s in gate.sessions.of("w1") + gate.sessions.of("w3")] == ["w1"] * 3 + ["w3"] * 3
        assert searches == 1
        assert len([s for s in gate.sessions.of("w2") if s.orphaned]) == 1


async def test_a_listener_of_one_session_hears_only_that_one() -> None:
    heard: list[SessionEvent] = []
    async with gateway() as (gate, workers, everything):
        other = await gate.open("a dog")
        remove = gate.listen(heard.append, "main")
        everything.clear()
        workers[0].tell(stats(1))
        workers[0].tell(stats(1, other.id))
        workers[0].tell(applied("main", "c"))
        workers[0].tell(SessionInfo(other.id, "a dog", 7, False, None, 2, 16, 0, 1000))
        assert heard == [everything[0], everything[2]]
        assert len(everything) == 4
        before = gate.sessions.listeners
        remove()
        remove()
        workers[0].tell(stats(2))
        assert (len(heard), gate.sessions.listeners) == (2, before - 1)
