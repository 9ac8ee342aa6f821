"""Migration: moves running sessions to other workers while people watch. A drain moves all of them, and the
balancer those that don't play in real time.

A session moves when a segment starts to play. Its snapshot is the end of that segment. From there the target
generates the next segment while the source plays this one. Controls that the snapshot does not contain are
submitted again, as in a failover. The target's pictures follow at the end of the segment, so each frame is
shown once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from typing import Literal

from engine.errors import PsistreamError, Unavailable
from server.gateway.exporting.exports import Exports
from server.gateway.failover import Failover
from server.gateway.fleet.fleet import Fleet, LastWorker
from server.gateway.fleet.supervisor import Supervisor
from server.gateway.registry import Sessions
from server.gateway.session import GatewaySession, Handover
from server.logs import about
from server.metrics import Metrics
from server.tasks import Tasks
from server.worker.messages.commands import CloseSession
from server.worker.messages.events import Exported
from server.worker.messages.holding import Moved

log = logging.getLogger(__name__)

AT_ONCE = 2  # concurrent migrations: each one makes the target generate a segment immediately
WAIT_S = 2.0  # how long to wait for a segment to start, and for the target's first packet
RETRY_S, BUSY_S = 1.0, 0.1
Reason = Literal["drain", "balance"]


class Migration:
    """A session stays where it is until another worker has capacity for it in real time. `close` is
    idempotent."""

    def __init__(
        self, sessions: Sessions, fleet: Fleet, exports: Exports, failover: Failover, metrics: Metrics
    ) -> None:
        self._sessions, self._fleet, self._exports = sessions, fleet, exports
        self._failover, self._metrics = failover, metrics
        self._tasks = Tasks()
        self._emptied: set[Supervisor] = set()  # that are drained; each by one task

    async def close(self) -> None:
        await self._tasks.close()

    def drain(self, worker: Supervisor) -> None:
        """Move this worker's sessions to others and open no new ones on it. Idempotent. Raises LastWorker."""
        if worker.draining:
            return
        if not any(other.accepts for other in self._fleet if other is not worker):
            only = f"{worker.name} is the only worker that accepts" if worker.accepts else "no worker accepts"
            raise LastWorker(
                f"{only} sessions now: wait until another one does, or start the server with more --workers",
                field="worker",
            )
        self._set(worker, draining=True)
        if worker not in self._emptied:  # a drain that was ended a moment ago goes on
            self._emptied.add(worker)
            self._tasks.spawn(self._drain(worker), f"drain-{worker.name}")

    def resume(self, worker: Supervisor) -> None:
        """End the drain: the worker accepts sessions again. Idempotent."""
        self._set(worker, draining=False)

    def _set(self, worker: Supervisor, *, draining: bool) -> None:
        if worker.draining != draining:
            now = "draining" if draining else "accepts sessions again"
            log.warning("%s: %s", worker.name, now, extra=about(worker.name))
        worker.draining = draining
        self._metrics.draining.labels(worker.name).set(draining)

    async def _drain(self, worker: Supervisor) -> None:
        turns = asyncio.Semaphore(AT_ONCE)

        async def leave(session: GatewaySession) -> None:
            async with turns:
                target = self._fleet.other_worker(session.worker)
                if worker.draining and session.worker == worker.name and target is not None:
                    await self.move(session, target)

        try:
            while worker.draining:
                sessions = [s for s in self._sessions.of(worker.name) if s.opened.done() and not s.orphaned]
                await asyncio.gather(*map(leave, sessions))
                await asyncio.sleep(RETRY_S)
        finally:
            self._emptied.discard(worker)

    async def move(self, session: GatewaySession, target: Supervisor, reason: Reason = "drain") -> bool:
        """Move the session to `target`. Returns False if that failed; the session then stays where it is."""
        source = self._fleet.of(session)
        session.moving = True
        try:
            await self._wait_for_segment(session, source)
            taken = await self._taken(session, source)
            gone = session.worker != source.name or session.orphaned or session.closed.is_set()
            if gone or session.closing or not target.accepts:
                return False
            self._hand_over(session, source, target, taken)
            self._metrics.moved.labels(reason).inc()
        except PsistreamError as error:
            log.info("%s: session %s was not moved: %s", source.name, session.id, error.message)
            return False
        finally:
            session.moving = False
        await self._release(session, source, taken.remaining_s if taken else 0.0)
        return True

    async def _taken(self, session: GatewaySession, source: Supervisor) -> Exported | None:
        """The session's snapshot. None if it has shown nothing on this worker yet, so that its recovery
        record is enough. Raises PsistreamError."""
        try:
            return await self._exports.take(session.id, "snapshot")
        except Unavailable:
            known = session.recovery.reopening(session.id) is not None
            if known and session.stats is None and source.fault is None and not session.orphaned:
                return None
            raise

    async def _wait_for_segment(self, session: GatewaySession, source: Supervisor) -> None:
        """Return when a segment has just started to play, which leaves the most time to generate the next
        one. For a session that shows nothing new, any moment will do. A snapshot that is already pending is
        awaited first."""
        ready = source.ready
        usual_s = ready.period_s if ready else 0.0
        while True:
            session.segment_shown.clear()
            if not (session.asleep or session.throttled):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(WAIT_S + 2 * usual_s):
                        await session.segment_shown.wait()
            if session.recovery.asked_s is None or session.closed.is_set() or session.orphaned:
                return
            await asyncio.sleep(0.01)

    def _hand_over(
        self, session: GatewaySession, source: Supervisor, target: Supervisor, taken: Exported | None
    ) -> None:
        """Switch to the target: it receives all commands from here on; the source only finishes playing its
        segment."""
        now_s, stats, ready = self._sessions.now_s(), session.stats, source.ready
        remaining_s, last = 0.0, -1
        numbers = session.progress.interrupted(now_s)
        if taken is not None:
            last, remaining_s = taken.segment, taken.remaining_s
            after = numbers.segment, numbers.frame
            if stats is not None and stats.segment == last == session.progress.begun and ready is not None:
                after = last + 1, stats.frame + ready.frames_per_segment
                here_s = session.fine_until_s - now_s  # the smaller of the two contains less delay
                remaining_s = max(0.0, min(remaining_s, here_s))
            session.recovery.moved(taken.data or b"", last, now_s)
            media_90k = taken.end_90k
            if session.progress.begun > last:  # the next segment has begun to be shown meanwhile
                media_90k = max(media_90k, numbers.media_90k)
            numbers = replace(numbers, segment=after[0], frame=after[1], media_90k=media_90k)
        self._failover.reopen_in(session, target, numbers, remaining_s)
        session.handover = Handover(source.name, last)
        source.try_send(Moved(session.id, last, session.lease_epoch))
        if session.buffering is not None and not session.throttled:
            session.stall(None, now_s)
            self._sessions.announce(session)

    async def _release(self, session: GatewaySession, source: Supervisor, remaining_s: float) -> None:
        """Close the session in the source once the target's first packet has arrived, or is overdue."""
        handover = session.handover
        try:
            if handover is not None and not session.asleep:
                async with asyncio.timeout(remaining_s + WAIT_S):
                    await handover.arrived.wait()
        except TimeoutError:
            log.warning("session %s: its new worker has sent no picture yet", session.id)
        session.handover = None
        while session.worker != source.name and source.ready is not None:
            try:
                source.send(CloseSession(session.id))
                return
            except Unavailable:  # its command queue is full
                await asyncio.sleep(BUSY_S)
