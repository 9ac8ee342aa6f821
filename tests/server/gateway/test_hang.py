"""While a worker hangs or is unresponsive, viewers are told that the picture stalls, and for how long."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from engine.types import OpenSession, SessionInfo, Stall
from server.gateway.gateway import Gateway
from server.worker.messages.events import Hung, Stalled
from tests.rigs.engine.fakes import ManualClock
from tests.rigs.server.server_rig import gateway, join, opened, stats, until


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Upkeep and test sleep on one event loop, which wakes them in order: after 0.05 s upkeep has run."""
    monkeypatch.setattr("server.gateway.upkeep.EVERY_S", 0.005)


def buffering_total(gate: Gateway) -> float | None:
    return gate.metrics.registry.get_sample_value("psistream_sessions_buffering")


async def test_viewers_are_told_about_the_stall_while_the_device_hangs() -> None:
    """Until the worker would be replaced. Sleeping and paused sessions are not told."""
    clock = ManualClock()
    async with gateway(clock, hang_limit_s=30.0) as (gate, workers, heard):
        paused, asleep = await gate.open("paused"), await gate.open("asleep")
        workers[0].tell(replace(paused.info, paused=True))
        join(gate.session("main").fanout)
        join(paused.fanout)
        workers[0].tell(stats(segment=1))  # 0.5 s that still play
        workers[0].tell(Hung(1.5))
        heard.clear()
        clock.advance(0.25)
        await asyncio.sleep(0.05)
        assert gate.info("main").buffering is None
        clock.advance(0.25)
        await until(lambda: gate.info("main").buffering, "word of the hang")
        assert gate.info("main").buffering == Stall(1.0, 1.0, 29.0)  # 28 s, and a restart
        assert gate.info("main") in heard
        clock.advance(4.0)
        assert gate.info("main").buffering == Stall(1.0, 1.0, 25.0)
        assert (gate.info(paused.id).buffering, gate.info(asleep.id).buffering) == (None, None)
        assert buffering_total(gate) == 1
        assert gate.overdue() == []
        workers[0].tell(Hung(None))
        await until(lambda: gate.info("main").buffering is None, "word that it is over")
        assert buffering_total(gate) == 0
        clock.advance(3.0)
        assert gate.overdue() == ["main"]  # the announced stall does not excuse later ones


async def test_viewers_are_told_about_the_stall_while_the_worker_is_unresponsive() -> None:
    clock = ManualClock()
    async with gateway(clock, hang_limit_s=30.0) as (gate, workers, heard):
        join(gate.session("main").fanout)
        workers[0].mute = True
        for _ in range(2):
            clock.advance(2.0)
            await asyncio.sleep(0.05)
        assert gate.info("main").buffering == Stall(1.0, 1.0, 27.0)
        workers[0].tell(stats())
        assert gate.info("main").buffering is None
        assert isinstance(heard[-1], SessionInfo)
        for _ in range(16):
            clock.advance(2.0)
            await asyncio.sleep(0.02)
        await until(lambda: len(workers) == 2 and gate.ready, "replacement")
        second = workers[1]
        assert gate.info("main").buffering == Stall(1.0, 1.0, 1.0)
        second.tell(opened(OpenSession("main", None, None)))
        second.tell(stats(segment=2))
        assert gate.info("main").buffering is None


async def test_events_of_a_worker_that_responds_again_count() -> None:
    async with gateway(ManualClock(), hang_limit_s=30.0) as (gate, workers, _):
        join(gate.session("main").fanout)
        workers[0].tell(Hung(1.5))
        await until(lambda: gate.info("main").buffering, "word of the hang")
        workers[0].tell(Hung(None))
        workers[0].tell(Stalled("main", Stall(0.5, 1.0, 2.0)))
        await asyncio.sleep(0.05)
        assert gate.info("main").buffering == Stall(0.5, 1.0, 2.0)
