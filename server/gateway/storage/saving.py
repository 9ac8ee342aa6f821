"""Saves sessions in a store now and then, and deletes there what has ended.

What is saved is the recovery record that the gateway has anyway, so no worker is asked. Nothing here delays
or ends a session: if the store is away, that is logged once, counted, and tried again.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import partial

from engine.types import SessionClosed
from server.control.base import SessionEvent
from server.gateway.fleet.fleet import Fleet
from server.gateway.records.records import Records
from server.gateway.registry import Sessions
from server.gateway.session import GatewaySession
from server.gateway.storage.saved import SavedSession, pack
from server.gateway.storage.stores.base import TIMEOUT_S, SessionStore, StoreFailed, patience_s
from server.metrics import Metrics
from server.storage import StorageConfig

log = logging.getLogger(__name__)

BYTES_PER_S = 10e6  # of all sessions
AT_ONCE = 4
LATER = 2.0  # stores have limits of their own, and say more when they reach them
LAST_S = 10.0  # to save everything when the gateway stops
KEPT = (
    "fenced",
    "worker_lost",
    "unavailable",
    "full",
    "backend",
)  # such a session may go on at the next start


@dataclass
class _Last:
    """What was saved last of a session, and when that was tried. Empty if it failed."""

    what: tuple[object, ...]
    at_s: float


class Saver:
    """`owner` is this gateway's name in the store."""

    def __init__(
        self,
        store: SessionStore,
        owner: str,
        config: StorageConfig,
        sessions: Sessions,
        fleet: Fleet,
        records: Records,
        metrics: Metrics,
    ) -> None:
        self._store, self._owner, self._config = store, owner, config
        self._sessions, self._fleet, self._records, self._metrics = sessions, fleet, records, metrics
        self._last: dict[str, _Last] = {}
        self._gone: set[str] = set()  # ended, and not yet deleted
        self._away = False
        self._places = asyncio.Semaphore(AT_ONCE)
        self._free_s = 0.0  # when the next bytes may be sent
        self._stop_listening = sessions.listen(self._heard)

    def close(self) -> None:
        """What ends from now on stays in the store."""
        self._stop_listening()

    async def save(self, *, everything: bool = False) -> None:
        """Save what is due, and delete what has ended."""
        work = [self._delete(name) for name in sorted(self._gone)]
        for session in self._sessions:
            if self._due(session, everything):
                work.append(self._try(session))
        await asyncio.gather(*work)
        self._last = {name: last for name, last in self._last.items() if name in self._sessions}

    def again(self) -> None:
        """The store has lost what was saved: save all sessions again."""
        if self._last:
            log.warning("the store has lost the saved sessions: they are saved again")
        self._last.clear()

    def answers(self) -> None:
        """The store does. If everything is saved, no save will come soon to say so."""
        if not self._gone and all(last.what for last in self._last.values()):
            self._back()

    async def save_last(self) -> None:
        """As much as can be saved in a few seconds: the gateway stops."""
        self.close()
        try:
            async with asyncio.timeout(LAST_S):
                await self.save(everything=True)
        except TimeoutError:
            log.error("not all sessions were saved before the end")
        if self._away:
            log.error("the latest state of some sessions could not be saved before the end")

    def _due(self, session: GatewaySession, everything: bool) -> bool:
        """Whether it has changed, or may soon be forgotten, and it is not too early to save it again."""
        opening = session.recovery.reopening(session.id)
        if opening is None or session.closing or not session.opened.done():
            return False
        last = self._last.get(session.id)
        if last is None:
            return True
        age_s = self._sessions.now_s() - last.at_s
        if age_s < self._config.every_s and not everything:
            return False
        return age_s >= self._config.keep_s / 4 or last.what != self._what(session)

    def _what(self, session: GatewaySession) -> tuple[object, ...]:
        """Differs if there is something new to save."""
        controls = tuple(control.id for control in session.recovery.since())
        taken_s, record = session.recovery.taken_s, self._records.of(session)
        return taken_s, controls, record, session.info.paused, session.info.action

    async def _try(self, session: GatewaySession) -> None:
        try:
            await self._save(session)
        except Exception:  # outermost loop: the other sessions are saved
            log.exception("session %s could not be saved", session.id)
            self._last[session.id] = _Last((), self._sessions.now_s())

    async def _save(self, session: GatewaySession) -> None:
        async with self._places:  # what ends meanwhile is deleted by the next call of `save`
            ready, opening = self._fleet.ready, session.recovery.reopening(session.id)
            if ready is None or opening is None or session.closed.is_set():
                return
            now_s, what = self._sessions.now_s(), self._what(session)
            saved = SavedSession(
                owner=self._owner,
                model=ready.model,
                fingerprint=ready.fingerprint,
                saved_at=self._records.wall_s(),
                lease_epoch=session.lease_epoch,
                numbers=session.progress.interrupted(now_s),
                record=self._records.of(session),
                info=session.current(now_s),
                opening=opening,
                controls=tuple(session.recovery.since()),
            )
            data = await asyncio.to_thread(partial(pack, saved, now_s))
            await self._turn(len(data))
            try:
                async with asyncio.timeout(LATER * patience_s(len(data))):
                    await self._store.put(f"sessions/{session.id}", data)
            except (StoreFailed, TimeoutError) as error:
                self.failed(error)
                self._last[session.id] = _Last((), now_s)  # again after the usual time
                return
            self._last[session.id] = _Last(what, now_s)  # not before: a save that is cancelled is none
        self._worked(len(data))

    async def _turn(self, size: int) -> None:
        """Wait until these bytes may be sent."""
        now_s = self._sessions.now_s()
        at_s = max(now_s, self._free_s)
        self._free_s = at_s + size / BYTES_PER_S
        await asyncio.sleep(at_s - now_s)

    async def _delete(self, name: str) -> None:
        async with self._places:
            try:
                async with asyncio.timeout(LATER * TIMEOUT_S):
                    await self._store.delete(f"sessions/{name}")
            except (StoreFailed, TimeoutError) as error:
                self.failed(error)
                return
        self._gone.discard(name)

    def _heard(self, event: SessionEvent) -> None:
        if isinstance(event, SessionClosed) and event.code not in KEPT:
            self._gone.add(event.session)
            self._sessions.waiting.discard(event.session)  # it was taken over from a worker, and has ended

    def failed(self, error: Exception) -> None:
        self._metrics.saves.labels("failed").inc()
        if not self._away:
            log.error("sessions are not saved: %s", error if str(error) else "the store does not answer")
        self._away = True

    def _worked(self, size: int) -> None:
        self._metrics.saves.labels("saved").inc()
        self._metrics.saved_bytes.inc(size)
        self._back()

    def _back(self) -> None:
        if self._away:
            log.warning("sessions are saved again")
        self._away = False
