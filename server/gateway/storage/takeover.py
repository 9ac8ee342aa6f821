"""Takes over the saved sessions of gateways of this cluster that are gone for good.

Their workers hold such sessions no longer, otherwise a gateway would have claimed them there. While a gateway
takes over, it has the other one's name in the store, so one alone does it, and the other one, if it starts
after all, waits for the end and finds its sessions elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from server.cluster.peers import Peers
from server.gateway.registry import Sessions
from server.gateway.session import MAIN
from server.gateway.storage.ownership import BEAT_S, STALE_S, Ownership, has_ended
from server.gateway.storage.saved import Damaged, pack, unpack
from server.gateway.storage.stores.base import SessionStore, StoreFailed

log = logging.getLogger(__name__)

# A worker closes sessions that no gateway has claimed for two minutes. After 150 s other gateways say that
# these sessions have ended.
AWAY_S = 130.0
BYTES_PER_S = 10e6  # that are read
MOST_FAILED = 3  # sessions: then it is the store


class Takeover:
    """`owner` is this gateway's name."""

    def __init__(
        self,
        store: SessionStore,
        owner: str,
        sessions: Sessions,
        peers: Peers,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._owner, self._sessions, self._peers = store, owner, sessions, peers
        self._clock = clock
        self._seen: dict[str, tuple[bytes, float]] = {}  # marks of gateways that are away, since when

    async def look(self) -> None:
        """Take over what there is, and let it wait for a place here. Raises StoreFailed."""
        names = await self._store.names("gateways")
        self._seen = {name: seen for name, seen in self._seen.items() if name in names}
        for name in names:
            if name != self._owner and self._peers.away_s(name) > AWAY_S:
                await self._consider(name)

    async def _consider(self, gateway: str) -> None:
        key, now_s = f"gateways/{gateway}", self._clock()
        if (mark := await self._store.get(key)) is None:
            return
        if gateway not in self._seen or self._seen[gateway][0] != mark:
            self._seen[gateway] = mark, now_s
        if not has_ended(mark) and now_s - self._seen[gateway][1] < STALE_S:
            return
        ownership = Ownership(self._store, gateway, by=self._owner)
        if await ownership.take_from(mark):
            await self._take(gateway, ownership)

    async def _take(self, gateway: str, ownership: Ownership) -> None:
        taken, failed, beat_s = 0, 0, self._clock() + BEAT_S
        for session in await self._store.names("sessions"):
            if self._clock() >= beat_s:
                beat_s = self._clock() + BEAT_S
                if not await ownership.beat():
                    return
            try:
                taken += await self._move(session, gateway)
            except StoreFailed as error:  # of this one alone, perhaps
                log.error("saved session %s is not taken over: %s", session, error.message)
                if (failed := failed + 1) >= MOST_FAILED:
                    raise
        await ownership.release()
        await self._store.delete(f"gateways/{gateway}")
        log.warning("gateway %s is gone: %d of its saved sessions go on here", gateway, taken)

    async def _move(self, session: str, gateway: str) -> bool:
        """Whether this session was that gateway's. Now it is this one's."""
        if session in self._sessions or session in self._sessions.waiting:
            return False
        # the gateway of its name may live, and have lost it to this one long ago
        if session == MAIN or self._peers.claimed_by(session) not in (None, gateway):
            return False
        data = await self._store.get(f"sessions/{session}")
        if data is None:
            return False
        await asyncio.sleep(len(data) / BYTES_PER_S)
        now_s = self._sessions.now_s()
        try:
            saved = await asyncio.to_thread(partial(unpack, data, now_s))
        except Damaged as error:
            log.error("saved session %s is not taken over: %s", session, error.message)
            return False
        if saved.owner != gateway:
            return False
        moved = await asyncio.to_thread(partial(pack, replace(saved, owner=self._owner), now_s))
        await self._store.put(f"sessions/{session}", moved)
        self._sessions.waiting.add(session)
        return True
