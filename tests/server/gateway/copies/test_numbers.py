"""With which numbers a session goes on after its worker was lost: those that follow, unless viewers at other
gateways may have seen more of it."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from server.gateway.gateway import Gateway
from server.gateway.session import GatewaySession
from server.worker.base import Numbers
from server.worker.messages.events import Packet
from server.worker.messages.holding import OtherViewers
from tests.rigs.engine.fakes import ManualClock
from tests.rigs.server.port_rig import listening
from tests.rigs.server.server_rig import FakeWorker, gateway, join, packet, recorded, stats, until
from tests.server.gateway.guests.gateways import connected, maker
from tests.server.gateway.replacement import told


async def watched(gate: Gateway, workers: list[FakeWorker]) -> tuple[GatewaySession, FakeWorker]:
    """A session of a worker that listens, which is watched here and shows segment 3, and that worker."""
    await until(lambda: len(workers) == 2 and all(w.ready for w in gate.fleet), "workers")
    for worker in workers:
        worker.outlives_gateway = True
    mine = await gate.open("a dog")
    join(mine.fanout)
    here = next(worker for worker in workers if told(worker, mine.id))
    here.tell(packet(24, session=mine.id))
    here.tell(replace(stats(3, mine.id), pts_90k=135_000))
    return mine, here


def continued(workers: list[FakeWorker], session: str) -> Numbers:
    (numbers,) = {o.numbers for w in workers for o in w.restored if o.opening.session == session}
    return numbers


async def test_the_numbers_follow_if_nobody_watches_elsewhere() -> None:
    """They skipped three segments, and media time half a second, as if others had seen those."""
    clock = ManualClock()
    async with gateway(clock, workers=2) as (gate, workers, _):
        mine, here = await watched(gate, workers)
        here.die()
        await until(lambda: not mine.orphaned, "another worker")
        assert continued(workers, mine.id) == Numbers(1, 4, 32, 135_001)


async def test_what_viewers_elsewhere_may_have_seen_meanwhile_is_not_used_again() -> None:
    clock = ManualClock()
    async with gateway(clock, workers=2) as (gate, workers, _):
        mine, here = await watched(gate, workers)
        here.tell(OtherViewers(mine.id, 1))
        here.die()
        await until(lambda: not mine.orphaned, "another worker")
        numbers = continued(workers, mine.id)
        assert (numbers.segment, numbers.frame) == (4 + 2, 32 + 2 * 8)
        assert numbers.media_90k > 135_001


@pytest.mark.usefixtures("often")
async def test_a_worker_that_is_silent_may_be_watched_elsewhere_by_now() -> None:
    clock = ManualClock()
    async with gateway(clock, workers=2) as (gate, workers, _):
        mine, here = await watched(gate, workers)
        here.mute = True
        while not any(worker.restored for worker in workers):
            clock.advance(0.5)
            await asyncio.sleep(0.02)
        numbers = continued(workers, mine.id)
        assert numbers.segment > 4 + 6 * 2, "as much as it may have shown in that time"
        assert numbers.frame == 8 * numbers.segment


@pytest.mark.usefixtures("often")
async def test_viewers_of_a_session_whose_worker_ends_see_one_segment_after_the_other() -> None:
    """Real workers over sockets."""
    async with AsyncExitStack() as second, AsyncExitStack() as first:
        ports = [(await stack.enter_async_context(listening()))[1] for stack in (first, second)]
        async with connected([maker(port) for port in ports], number=1) as (gate,):
            mine = await gate.open("a dog", 5)
            seen = recorded(mine.fanout)
            join(mine.fanout)
            await until(lambda: seen and seen[-1].segment > 2, "video")
            place = mine.worker
            lost = [first, second][[worker.name for worker in gate.fleet].index(place)]
            began_s = time.monotonic()
            ending = asyncio.create_task(lost.aclose())
            await until(lambda: mine.worker != place, "failover")
            then = len(seen)
            await until(lambda: len(seen) > then and seen[-1].segment > seen[then].segment + 2, "video")
            took_s = time.monotonic() - began_s
            await ending
            assert segments(seen) == list(range(segments(seen)[0], segments(seen)[-1] + 1))
            frames = [each.frame for each in seen]
            assert sorted(set(frames)) == sorted(frames), "no frame is shown twice"
            times = [each.pts_90k for each in seen]
            assert sorted(set(times)) == times
            assert times[-1] - times[then - 1] < 90_000 * (took_s + 0.2), "time is the wall clock's"


def segments(seen: list[Packet]) -> list[int]:
    return list(dict.fromkeys(each.segment for each in seen))
