"""Leases: a session belongs to the gateway that opened or claimed it last, as long as that gateway is alive.

A worker outlives its gateways. Without a sign of its gateway for SILENT_S, a session's packets are no longer
sent or encoded; after STOP_S nothing is generated, and after CLOSE_S it is closed. A gateway that claims it
earlier with a higher epoch owns it. Plain data: no connections, threads or clocks of its own.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from engine.types import SessionInfo
from server.worker.messages import SetViewers

SILENT_S, STOP_S, CLOSE_S = 3.0, 15.0, 120.0
RECORD_BYTES = 1 << 16


class LeaseStage(IntEnum):
    HELD = 0
    SILENT = 1  # nothing is sent
    STOPPED = 2  # nothing is generated
    OVER = 3


@dataclass
class Lease:
    """`owner` is None once its connection is gone; `heard_s` is when the owner was last heard from."""

    session: str
    owner: Hashable | None
    epoch: int
    heard_s: float
    stage: LeaseStage = LeaseStage.HELD
    viewers: SetViewers | None = None  # as its owner told last
    info: SessionInfo | None = None  # as the engine told last
    record: bytes = b""  # what its owner wants its successor to know


class Leases:
    """The leases of all sessions of one worker."""

    def __init__(self) -> None:
        self._leases: dict[str, Lease] = {}

    def __iter__(self) -> Iterator[Lease]:
        return iter(list(self._leases.values()))

    def get(self, session: str) -> Lease | None:
        return self._leases.get(session)

    def owned(self, session: str, owner: Hashable) -> Lease | None:
        lease = self._leases.get(session)
        return lease if lease is not None and lease.owner == owner else None

    def open(self, session: str, owner: Hashable, epoch: int, now_s: float) -> bool:
        """Add a lease. Returns False if the session is already leased with an epoch that is at least as
        high."""
        known = self._leases.get(session)
        if known is not None and epoch <= known.epoch:
            return False
        self._leases[session] = Lease(session, owner, epoch, now_s)
        return True

    def claim(self, session: str, owner: Hashable, epoch: int, now_s: float) -> Lease | None:
        """Give the lease to the claimant if its epoch is higher, and return it."""
        lease = self._leases.get(session)
        if lease is None or epoch <= lease.epoch:
            return None
        lease.owner, lease.epoch, lease.heard_s, lease.stage = owner, epoch, now_s, LeaseStage.HELD
        return lease

    def end(self, session: str) -> None:
        self._leases.pop(session, None)

    def gone(self, owner: Hashable) -> list[Lease]:
        """A gateway's connection has ended. Returns the sessions that have no owner now."""
        lost = [lease for lease in self if lease.owner == owner]
        for lease in lost:
            lease.owner, lease.stage = None, max(lease.stage, LeaseStage.SILENT)
        return lost

    def heard(self, owner: Hashable, heard_s: float, now_s: float) -> list[Lease]:
        """A gateway was heard from. Returns its sessions that continue because of that."""
        back = []
        for lease in self:
            if lease.owner == owner:
                lease.heard_s = heard_s
                if lease.stage and now_s - heard_s < SILENT_S:
                    lease.stage = LeaseStage.HELD
                    back.append(lease)
        return back

    def look(self, now_s: float) -> list[Lease]:
        """The sessions that have reached a later stage, or (STOPPED) stay in it, because they have waited too
        long."""
        changed = []
        for lease in self:
            silent_s = now_s - lease.heard_s
            stage = LeaseStage(sum(silent_s >= limit for limit in (SILENT_S, STOP_S, CLOSE_S)))
            if stage > lease.stage:
                lease.stage = stage
                changed.append(lease)
        return changed
