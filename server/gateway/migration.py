"""Moves running sessions to other workers while people watch, and so drains a worker.

A session moves when a segment begins to be shown: its snapshot is the end of that segment, from which the
other worker makes the next one while this one plays. Controls that the snapshot does not show go along, as
in a failover. The picture changes over at the end of the segment, so each frame is shown once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from engine.errors import PsistreamError, Unavailable
from server.gateway.exports import Exports
from server.gateway.failover import Failover
from server.gateway.fleet.fleet import Fleet, LastWorker
from server.gateway.fleet.supervisor import Supervisor
from server.gateway.registry import Sessions
from server.gateway.session import GatewaySession, Leaving
from server.metrics import Metrics
from server.tasks import Tasks
from server.worker.messages import CloseSession, Exported

log = logging.getLogger(__name__)

AT_ONCE = 2  # sessions that move at the same time: each brings the new worker a segment to make at once
BEGINS_S = 2.0  # how long a segment's beginning is waited for, and a packet of the new worker
RETRY_S, BUSY_S = 1.0, 0.1


class Migration:
    """`close` is idempotent. Sessions for which nobody has room in real time stay until somebody has."""

    def __init__(
        self, sessions: Sessions, fleet: Fleet, exports: Exports, failover: Failover, metrics: Metrics
    ) -> None:
        self._sessions, self._fleet, self._exports = sessions, fleet, exports
        self._failover, self._metrics = failover, metrics
        self._tasks = Tasks()

    async def close(self) -> None:
        await self._tasks.close()

    def drain(self, worker: Supervisor) -> None:
        """Move its sessions to other workers, and open none here. Idempotent. Raises LastWorker."""
        if worker.draining:
            return
        if not any(other.takes for other in self._fleet if other is not worker):
            raise LastWorker(
                f"no worker but {worker.name} takes sessions now: wait until another one does, or start the "
                "server with more --workers",
                field="worker",
            )
        self._set(worker, draining=True)
        self._tasks.spawn(self._drain(worker), f"drain-{worker.name}")

    def resume(self, worker: Supervisor) -> None:
        """Let it take sessions again. Idempotent."""
        self._set(worker, draining=False)

    def _set(self, worker: Supervisor, *, draining: bool) -> None:
        if worker.draining != draining:
            log.warning("%s: %s", worker.name, "is drained" if draining else "takes sessions again")
        worker.draining = draining
        self._metrics.draining.labels(worker.name).set(draining)

    async def _drain(self, worker: Supervisor) -> None:
        turns = asyncio.Semaphore(AT_ONCE)

        async def leave(session: GatewaySession) -> None:
            async with turns:
                target = self._fleet.refuge(session)
                if worker.draining and session.worker == worker.name and target is not None:
                    await self.move(session, target)

        while worker.draining:
            sessions = [s for s in self._sessions.of(worker.name) if s.opened.done() and not s.away]
            await asyncio.gather(*map(leave, sessions))
            await asyncio.sleep(RETRY_S)

    async def move(self, session: GatewaySession, target: Supervisor) -> bool:
        """Whether it runs in `target` now. If not, it stays where it is."""
        source = self._fleet.of(session)
        session.moving = True
        try:
            await self._segment_begins(session, source)
            taken = await self._taken(session, source)
            if session.worker != source.name or session.away or session.closed.is_set() or not target.takes:
                return False
            self._hand_over(session, source, target, taken)
        except PsistreamError as error:
            log.info("%s: session %s stays for now: %s", source.name, session.id, error.message)
            return False
        finally:
            session.moving = False
        await self._leave(session, source, taken.left_s if taken else 0.0)
        return True

    async def _taken(self, session: GatewaySession, source: Supervisor) -> Exported | None:
        """Its snapshot. None: it has shown nothing since it came here, so it can start again as it came.
        Raises PsistreamError."""
        try:
            return await self._exports.take(session.id, "snapshot")
        except Unavailable:
            known = session.recovery.reopening(session.id) is not None
            if known and session.stats is None and source.fault is None and not session.away:
                return None
            raise

    async def _segment_begins(self, session: GatewaySession, source: Supervisor) -> None:
        """So that there is the most time until the next one is needed. Of a session that shows nothing new
        any time will do; and an earlier snapshot that is still pending must come first."""
        ready = source.ready
        usual_s = max(ready.frames_per_segment / ready.fps, ready.segment_ms / 1000) if ready else 0.0
        while True:
            session.begun.clear()
            if not (session.asleep or session.throttled):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(BEGINS_S + 2 * usual_s):
                        await session.begun.wait()
            if session.recovery.asked_s is None or session.closed.is_set() or session.away:
                return
            await asyncio.sleep(0.01)

    def _hand_over(
        self, session: GatewaySession, source: Supervisor, target: Supervisor, taken: Exported | None
    ) -> None:
        """From here on the target is told everything, and the source only plays its segment to the end."""
        now_s, stats, before, ready = self._sessions.now_s(), session.stats, session.numbers, source.ready
        left_s, after, last = 0.0, before.upcoming, -1
        if taken is not None:
            last, left_s = taken.segment, taken.left_s
            shown = before.segment(last)
            if stats is not None and stats.segment == shown and ready is not None:
                after = shown + 1, stats.frame + ready.frames_per_segment
                left_s = max(0.0, min(left_s, session.moved_s - now_s))  # what has less delay in it
            session.recovery.moved(taken.data or b"", shown, now_s)
        self._failover.go_on(session, target, left_s)
        session.numbers = before.continued(*after)
        session.leaving = Leaving(source.name, last, before)
        self._metrics.moved.inc()
        if session.buffering is not None and not session.throttled:
            session.stall(None, now_s)
            self._sessions.tell(session)

    async def _leave(self, session: GatewaySession, source: Supervisor, left_s: float) -> None:
        """Close it in the source once the target's picture is there, or should be."""
        leaving = session.leaving
        try:
            if leaving is not None and not session.asleep:
                async with asyncio.timeout(left_s + BEGINS_S):
                    await leaving.arrived.wait()
        except TimeoutError:
            log.warning("session %s: no picture of its new worker yet", session.id)
        session.leaving = None
        while session.worker != source.name and source.ready is not None:
            try:
                source.send(CloseSession(session.id))
                return
            except Unavailable:  # it has too much to do
                await asyncio.sleep(BUSY_S)
