"""Resumes the sessions that an earlier gateway of this name has saved, as far as there are places.

They come back with their ids, tokens and links, and sleep until somebody watches, so they take no device time
before. What does not fit waits: whoever asks for it is told so. What another model has made is left alone.
"""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import replace
from functools import partial

from engine.errors import Full, PsistreamError, Unavailable
from engine.types import OpenSession
from server.gateway.failover import Failover
from server.gateway.fleet.fleet import Fleet
from server.gateway.fleet.supervisor import Supervisor
from server.gateway.opening import OPEN_TIMEOUT_S, Opener
from server.gateway.records.record import read_record
from server.gateway.records.records import Records
from server.gateway.registry import Sessions
from server.gateway.session import MAIN, GatewaySession
from server.gateway.storage.saved import Damaged, SavedSession, unpack
from server.gateway.storage.stores.base import SessionStore, StoreFailed
from server.worker.base import Numbers
from server.worker.messages.events import WorkerReady

log = logging.getLogger(__name__)

NO_PLACE = "this session could not be resumed yet"


class Resumer:
    """`owner` is this gateway's name in the store."""

    def __init__(
        self,
        store: SessionStore,
        owner: str,
        sessions: Sessions,
        fleet: Fleet,
        failover: Failover,
        opener: Opener,
        records: Records,
    ) -> None:
        self._store, self._owner = store, owner
        self._sessions, self._fleet, self._failover = sessions, fleet, failover
        self._opener, self._records = opener, records
        self._resumed = 0
        self._told = False  # that some wait
        self._one = asyncio.Lock()  # at a time
        self._unread: set[str] = set()  # which the store could not give: they come after the others

    async def look(self) -> None:
        """Which sessions there are. Raises StoreFailed."""
        self._sessions.waiting = set(await self._store.names("sessions"))

    async def resume(self, only: str | None = None) -> None:
        """Resume what waits, `main` first, or only this session, until there is no place. Raises
        StoreFailed."""
        async with self._one:
            waiting = self._sessions.waiting
            names = sorted(waiting, key=lambda name: (name in self._unread, name != MAIN, name))
            for name in names if only is None else waiting & {only}:
                if name == MAIN and not self._opener.opens_main:
                    continue
                worker = next(iter(self._fleet.to_ask()), None)
                if worker is None or worker.ready is None or not await self._take(name, worker, worker.ready):
                    break
            self._tell(finished=only is None)

    def _tell(self, *, finished: bool) -> None:
        if self._resumed and finished:
            log.warning("%d saved sessions were resumed", self._resumed)
            self._resumed = 0
        if finished and bool(self._sessions.waiting) != self._told:
            self._told = not self._told
            if self._told:
                log.warning("%d saved sessions wait for a place", len(self._sessions.waiting))

    async def _take(self, name: str, worker: Supervisor, ready: WorkerReady) -> bool:
        """Resume this session if it can be. Returns False if there is no place for it now."""
        try:
            data = None if name in self._sessions else await self._store.get(f"sessions/{name}")
        except StoreFailed:
            self._unread.add(name)
            raise
        self._unread.discard(name)
        if data is None or name in self._sessions:  # taken over from a worker meanwhile, or too old
            self._sessions.waiting.discard(name)
            return True
        try:
            saved = await asyncio.to_thread(partial(unpack, data, self._sessions.now_s()))
            if (saved.owner == self._owner or name == MAIN) and saved.fits(ready):
                saved.check(name, ready)
        except Damaged as error:
            log.error("saved session %s is not resumed: %s", name, error.message)
            self._sessions.waiting.discard(name)
            return True
        if saved.owner != self._owner and name != MAIN:  # another gateway has it, or will
            self._sessions.waiting.discard(name)
            return True
        if not saved.fits(ready):
            await self._leave(name, saved, data)
            return True
        gone = name not in self._sessions.waiting  # it was here meanwhile, and has ended
        if gone or name in self._sessions or worker.ready is None:
            return True
        try:
            await self._reopen(saved, worker)
        except (Full, Unavailable, TimeoutError):
            return False
        except PsistreamError as error:
            log.error("saved session %s is not resumed: %s", name, error.message)
        except Exception:  # outermost loop: the others are resumed
            log.exception("saved session %s is not resumed", name)
        else:
            self._resumed += 1
        self._sessions.waiting.discard(name)
        return True

    async def _leave(self, name: str, saved: SavedSession, data: bytes) -> None:
        """Of another model: kept, in case that one is started again."""
        kept = name
        if name == MAIN:  # the new model's `main` will be saved in its place
            mark = re.sub("[^A-Za-z0-9]", "", saved.fingerprint)[:8]  # anybody may have written it
            kept = f"{MAIN}-{mark or 'other'}"
            await self._store.put(f"sessions/{kept}", data)
        log.warning(
            "saved session %s is of model %s (%s) and not resumed; it is kept as %s",
            name,
            saved.model,
            saved.fingerprint[:12] or "no fingerprint",
            kept,
        )
        self._sessions.waiting.discard(name)

    async def _reopen(self, saved: SavedSession, worker: Supervisor) -> None:
        """Raises Full, Unavailable, TimeoutError, PsistreamError; then the session is as it was before."""
        assert worker.ready is not None
        name, record = saved.info.id, read_record(saved.record)
        numbers = saved.numbers_at(self._records.wall_s(), worker.ready)
        self._records.charge(record)
        origin = OpenSession(name, saved.info.prompt, saved.info.seed)
        session = self._opener.enter(origin, record.client, record.hashes)
        try:
            self._records.apply(record, session)
            self._prepare(session, saved, numbers)
            session.lost_frames = _lost(record.lost_frames, saved.numbers.frame, numbers.frame)
            session.progress.continued(numbers, self._sessions.now_s())
            self._failover.reopen_in(session, worker, numbers)
            async with asyncio.timeout(OPEN_TIMEOUT_S + worker.ready.segment_ms / 1000):
                await session.verdict
        except BaseException:
            self._opener.drop(session, Unavailable.code, NO_PLACE)
            self._fleet.ending.known.forget(name)  # it is tried again
            raise
        self._sessions.waiting.discard(name)

    def _prepare(self, session: GatewaySession, saved: SavedSession, numbers: Numbers) -> None:
        session.info = replace(  # until the worker says what it has
            saved.info,
            epoch=numbers.epoch,
            segment=numbers.segment,
            frame=numbers.frame,
            viewers=0,
            buffering=None,
        )
        session.recovery = saved.recovery()
        session.lease_epoch = saved.lease_epoch
        session.dormant = True


def _lost(before: tuple[int, ...], first: int, after: int) -> tuple[int, int]:
    """The frames that clients are told are lost. An earlier loss, after which nothing was shown, is part of
    it, since clients may not have heard of that one."""
    return (before[0], after) if before[1:] == (first,) else (first, after)
