"""What is done every second: replace a worker that hangs; keep, ration, forget sessions, tell who waits.

It decides by what the gateway's parts know and asks them to act; it knows no clients and no codecs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping

from engine.errors import PsistreamError, Unavailable
from engine.types import Stall
from server.config import ServerConfig
from server.gateway.budget import Budgets
from server.gateway.events import Hearing
from server.gateway.session import MAIN, Session
from server.gateway.supervisor import Supervisor
from server.metrics import Metrics
from server.tasks import Tasks

log = logging.getLogger(__name__)

EVERY_S = 1.0
MOST_BYTES_PER_S = 10e6  # of one session's snapshots: frames go through the same pipe


class Upkeep:
    """`drop(session, code, message)` ends one here and there; `snapshot` asks for one; `revive` lets those go
    on that could not be told to the worker yet; `open_main` opens the shared one, which may have failed;
    `stuck` is told every second in how many seconds sessions go on at the latest where the worker hangs or is
    silent; None: all is well."""

    def __init__(
        self,
        config: ServerConfig,
        sessions: Mapping[str, Session],
        supervisor: Supervisor,
        hearing: Hearing,
        budgets: Budgets,
        metrics: Metrics,
        clock: Callable[[], float],
        drop: Callable[[Session, str, str], None],
        snapshot: Callable[[str], Awaitable[bytes]],
        revive: Callable[[], None],
        open_main: Callable[[], Awaitable[None]],
        stuck: Callable[[float | None], None],
    ) -> None:
        self._config, self._sessions, self._supervisor, self._hearing = config, sessions, supervisor, hearing
        self._budgets, self._metrics, self._clock = budgets, metrics, clock
        self._drop, self._snapshot, self._revive = drop, snapshot, revive
        self._open_main, self._stuck = open_main, stuck
        self._tasks = Tasks()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await asyncio.sleep(EVERY_S)
                self._check_worker()
                for session in list(self._sessions.values()):
                    self._look_after(session)
                self._metrics.asleep.set(sum(s.asleep for s in self._sessions.values()))
        finally:
            await self._tasks.close()

    def stalled(self) -> list[str]:
        """Sessions that are watched and should move, but have not for long: the device hangs."""
        now_s, ready = self._clock(), self._supervisor.ready
        period_s = max(ready.frames_per_segment / ready.fps, ready.segment_ms / 1000) if ready else 0.0
        return [s.id for s in self._sessions.values() if s.stalled(now_s, period_s)]

    def _check_worker(self) -> None:
        ready = self._supervisor.ready
        if ready is None:
            return
        now_s, health = self._clock(), self._hearing.health
        health.listened(now_s)
        limit_s = max(self._config.hang_limit_s, 3 * ready.segment_ms / 1000)
        why = health.lasting(now_s, limit_s, stalled=bool(self.stalled()))
        if why is not None:
            self._supervisor.replace(why)
            return
        fault = health.fault(now_s) is not None
        self._stuck(health.left_s(now_s, limit_s) + self._supervisor.back_in_s if fault else None)
        if health.silence is not None:
            self._unanswered(health.silence)
            return
        self._revive()
        if MAIN not in self._sessions:
            self._tasks.spawn(self._try_main(), "open-main")

    def _unanswered(self, message: str) -> None:
        """Who waits for the worker's word is told so; sessions that are open wait for it, or for the next."""
        for session in list(self._sessions.values()):
            if not session.opened.done():
                self._drop(session, Unavailable.code, message)
        self._hearing.exports.fail(Unavailable(message))

    async def _try_main(self) -> None:
        with contextlib.suppress(PsistreamError):  # in a second again
            await self._open_main()

    def _look_after(self, session: Session) -> None:
        now_s, config = self._clock(), self._config
        unused_s = 0.0 if session.fanout.count else now_s - session.used_s
        if unused_s > config.session_idle_s and session.id != MAIN:
            self._drop(session, "idle", "nobody watched or steered it any more")  # it keeps others out
            return
        self.ration(session)
        if session.buffering is not None:  # what is kept for latecomers must not tell of a past future
            self._hearing.tell(session)
        if session.away or not session.opened.done() or not config.snapshot_every_s:
            return
        every_s = max(config.snapshot_every_s, session.info.state_bytes / MOST_BYTES_PER_S)
        if session.keepsake.due(now_s, every_s):
            session.keepsake.asked(now_s)
            self._tasks.spawn(self._keep(session), f"keep-{session.id}")

    def ration(self, session: Session) -> None:
        """Whose client has used up its share stands until there is some again, and is told anew for how long:
        what was under way when it was held is still charged."""
        client = session.client
        over = self._budgets.over(client)
        if client is None or session.away or not (over or session.held):
            return
        changed, session.held = over != session.held, over
        speed = session.stats.speed if session.stats else 1.0
        waits = over and not session.info.paused
        session.stands(Stall(speed, 1.0, self._budgets.back_in_s(client)) if waits else None, self._clock())
        if changed:
            self._supervisor.try_send(session.audience())
            self._hearing.count()
            self._hearing.tell(session)

    async def _keep(self, session: Session) -> None:
        """A snapshot, in case the worker is lost."""
        snapshot = None
        try:
            snapshot = await self._snapshot(session.id)
            self._metrics.snapshot_bytes.set(len(snapshot))
        except PsistreamError as error:
            log.debug("session %s: no snapshot: %s", session.id, error.message)
        finally:
            session.keepsake.taken(snapshot, self._clock())
