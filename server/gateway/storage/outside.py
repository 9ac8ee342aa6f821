"""Keeps sessions outside of gateway and workers (`--snapshots`), so that they outlive both."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from engine.errors import Unavailable
from server.cluster.peers import Peers
from server.config import ServerConfig
from server.gateway.failover import Failover
from server.gateway.fleet.fleet import Fleet
from server.gateway.opening import Opener
from server.gateway.records.records import Records
from server.gateway.registry import Sessions
from server.gateway.session import MAIN
from server.gateway.storage.ownership import BEAT_S, Ownership
from server.gateway.storage.resuming import Resumer
from server.gateway.storage.saving import Saver
from server.gateway.storage.stores.base import SessionStore, StoreFailed
from server.gateway.storage.stores.open import open_store
from server.gateway.storage.takeover import Takeover
from server.metrics import Metrics
from server.tasks import first_of

log = logging.getLogger(__name__)

ALONE = "gateway"  # the name of one that has joined no directory
EVERY_S, RETRY_S, EXPIRE_S = 1.0, 5.0, 3600.0
# Workers that outlive gateways may still have the sessions, and other gateways may have claimed them.
SETTLE_S = 10.0


class Outside:
    """Nothing is done without --snapshots. `close` is idempotent."""

    def __init__(
        self,
        config: ServerConfig,
        sessions: Sessions,
        fleet: Fleet,
        failover: Failover,
        opener: Opener,
        records: Records,
        metrics: Metrics,
        peers: Peers,
    ) -> None:
        self._config, self._sessions, self._fleet, self._peers = config, sessions, fleet, peers
        self._failover, self._opener, self._records, self._metrics = failover, opener, records, metrics
        self._store: SessionStore | None = None
        self._ownership: Ownership | None = None
        self._saver: Saver | None = None
        self._resumer: Resumer | None = None
        self._takeover: Takeover | None = None
        self._ours = True  # the name in the store

    async def start(self) -> None:
        """Find out what there is to resume. Raises Unavailable if the store is away, or another gateway uses
        it."""
        if (config := self._config.storage) is None:
            return
        name = self._config.name or ALONE
        self._store = store = open_store(config)
        ownership = Ownership(store, name)
        sessions, fleet, records = self._sessions, self._fleet, self._records
        resumer = Resumer(store, name, sessions, fleet, self._failover, self._opener, records)
        try:
            await ownership.take()
            self._ownership = ownership
            await store.expire(config.keep_s)
            await resumer.look()
        except StoreFailed as error:
            raise Unavailable(f"--snapshots cannot be used: {error.message}") from None
        self._saver = Saver(store, name, config, sessions, fleet, records, self._metrics)
        self._resumer = resumer
        if self._peers:
            sessions.main_saved = MAIN in sessions.waiting
            sessions.waiting.discard(MAIN)
            self._takeover = Takeover(store, name, sessions, self._peers, sessions.now_s)

    async def keep_name(self) -> None:
        """Until cancelled, from the start on: a model may take minutes to load, and meanwhile another gateway
        could take the name."""
        while (ownership := self._ownership) is not None and (saver := self._saver) is not None:
            try:
                self._beaten(await ownership.beat())
                if ownership.store_lost_it:  # such as Redis after a restart
                    saver.again()
                saver.answers()
            except StoreFailed as error:
                saver.failed(error)
            except Exception:  # outermost loop: the next time may go well
                log.exception("the name of this gateway in --snapshots could not be kept")
            await asyncio.sleep(BEAT_S)

    async def worker_up(self) -> None:
        """Resume `main` before a new one is opened."""
        if self._resumer is not None and not self._settles and self._ours:
            with suppress(StoreFailed):  # `run` tries again
                await self._resumer.resume(MAIN)

    async def run(self) -> None:
        """Save and resume sessions until cancelled."""
        saver, resumer = self._saver, self._resumer
        if saver is None or resumer is None or self._store is None:
            return
        save = self._save(saver, self._store)
        await first_of(save=save, resume=self._resume(saver, resumer))

    async def _save(self, saver: Saver, store: SessionStore) -> None:
        """Until cancelled, while this gateway has its name in the store."""
        loop = asyncio.get_running_loop()
        expire_s = loop.time()
        while True:
            now_s = loop.time()
            try:
                if now_s >= expire_s + EXPIRE_S:
                    expire_s = now_s
                    await store.expire(self._config.storage.keep_s)  # type: ignore[union-attr]
                if self._ours:
                    await saver.save()
            except StoreFailed as error:
                saver.failed(error)
            except Exception:  # outermost loop: the next time may go well
                log.exception("sessions could not be saved")
            await asyncio.sleep(EVERY_S)

    async def _resume(self, saver: Saver, resumer: Resumer) -> None:
        """Until cancelled: what is in the store, and what gateways that are gone have left there."""
        loop = asyncio.get_running_loop()
        resume_s = settled_s = loop.time() + (SETTLE_S if self._settles else 0.0)
        while True:
            vacant, now_s = self._main_is_vacant(), loop.time()
            due = now_s >= resume_s or (vacant and now_s >= settled_s)
            if due and self._ours and self._fleet.ready is not None:
                resume_s = loop.time() + RETRY_S
                try:
                    await self._look(resumer, vacant)
                except StoreFailed as error:
                    saver.failed(error)
                    if vacant:  # then a new one is opened
                        self._sessions.waiting.discard(MAIN)
                except Exception:  # outermost loop: the next time may go well
                    log.exception("saved sessions could not be resumed")
            self._metrics.waiting.set(len(self._sessions.waiting))
            await asyncio.sleep(EVERY_S)

    async def _look(self, resumer: Resumer, vacant: bool) -> None:
        """Raises StoreFailed."""
        if self._takeover is not None and not vacant and self._fleet.to_ask():
            await self._takeover.look()
        await resumer.resume(MAIN if vacant else None)

    def _main_is_vacant(self) -> bool:
        """Whether this gateway is to open session `main`, which another one of the cluster had before."""
        sessions = self._sessions
        if not self._peers:
            return False
        if MAIN in sessions or not self._ours:
            sessions.main_saved = False
            sessions.waiting.discard(MAIN)
        elif not self._peers.opens_main:
            sessions.main_saved = sessions.main_saved or bool(self._peers.main)
            sessions.waiting.discard(MAIN)
        elif sessions.main_saved:
            sessions.main_saved = False
            sessions.waiting.add(MAIN)
        return MAIN in sessions.waiting

    def _beaten(self, ours: bool) -> None:
        if ours != self._ours:
            self._ours = ours
            text = "is free again: sessions are saved" if ours else "is another one's now: nothing is saved"
            log.error("the name of this gateway in --snapshots %s", text)

    async def close(self) -> None:
        """Save everything. What ends from now on, ends here and not in the store."""
        saver, ownership, store = self._saver, self._ownership, self._store
        self._saver = self._ownership = self._store = None
        if saver is not None and self._ours:
            await saver.save_last()
        if ownership is not None:
            with suppress(StoreFailed):
                await ownership.release()
        if store is not None:
            await store.close()

    @property
    def _settles(self) -> bool:
        return self._config.placement == "remote"
