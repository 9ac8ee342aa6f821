"""Leases: a session belongs to the gateway that opened or claimed it last, as long as that gateway is alive.

A worker outlives its gateways. Without a sign of its gateway for SILENT_S, a session's packets are no longer
encoded or sent; receipts and other news still are while there is a connection, since they must not be lost.
After STOP_S nothing is generated, and after CLOSE_S it is closed. A gateway that claims it earlier with a
higher epoch owns it. Other gateways may show it too, as its guests. Plain data: no connections, threads or
clocks of its own.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field, replace
from enum import IntEnum

from engine.types import Receipt, SessionInfo, Stall
from server.worker.base import Applied
from server.worker.messages.commands import SetViewers
from server.worker.messages.events import SegmentStats

SILENT_S, STOP_S, CLOSE_S = 3.0, 15.0, 120.0
RECORD_BYTES = 1 << 16
MISSED = 256  # receipts that came while nobody held the session


class LeaseStage(IntEnum):
    HELD = 0
    SILENT = 1  # no packet is sent
    STOPPED = 2  # nothing is generated
    OVER = 3


@dataclass
class GuestGateway:
    """A gateway that shows a session which another one holds. `told` is the number of viewers elsewhere that
    it was told."""

    viewers: dict[str, int]  # per rendition
    count: int
    silent: bool = False
    told: int = 0


@dataclass
class Lease:
    """`owner` is None once its connection is gone; `heard_s` is when the owner was last heard from. `told` is
    the number of viewers elsewhere that the owner was told; None: nothing yet."""

    session: str
    owner: Hashable | None
    epoch: int
    heard_s: float
    stage: LeaseStage = LeaseStage.HELD
    viewers: SetViewers | None = None  # as its owner told last
    info: SessionInfo | None = None  # as the engine told last
    shown: SegmentStats | None = None  # the latest segment, shown since `shown_s`
    shown_s: float = 0.0
    record: bytes = b""  # what its owner wants its successor to know
    missed: deque[Receipt | Applied] = field(default_factory=lambda: deque(maxlen=MISSED))  # by a successor
    guests: dict[Hashable, GuestGateway] = field(default_factory=dict)
    told: int | None = 0
    stall: Stall | None = None  # since `stalled_s`
    stalled_s: float = 0.0
    closing: bool = False  # its owner has closed it
    awaited: bool = False  # by who claimed it before it was open

    def stall_at(self, now_s: float) -> Stall | None:
        """The stall as it is now."""
        if self.stall is None:
            return None
        return replace(self.stall, resumes_in_s=max(0.0, self.stall.resumes_in_s - (now_s - self.stalled_s)))

    @property
    def heard_guests(self) -> dict[Hashable, GuestGateway]:
        """The guests that are alive."""
        return {gateway: guest for gateway, guest in self.guests.items() if not guest.silent}

    def audience(self) -> SetViewers:
        """What all its gateways together watch. A throttled session has no viewers."""
        own = self.viewers or SetViewers(self.session, {})
        if own.throttled or self.stage >= LeaseStage.STOPPED:
            return SetViewers(self.session, {}, throttled=True)
        viewers = Counter[str]() if self.stage else Counter(own.viewers)
        for guest in self.heard_guests.values():
            viewers.update(guest.viewers)
        return SetViewers(self.session, dict(viewers), count=self.count)

    @property
    def count(self) -> int:
        """The number of its viewers."""
        own = self.viewers.count if self.viewers is not None and not self.stage else 0
        return own + sum(guest.count for guest in self.heard_guests.values())

    def watchers(self, rendition: str) -> list[Hashable]:
        """The gateways that watch this rendition."""
        own = self.viewers is not None and not self.stage and rendition in self.viewers.viewers
        guests = [gateway for gateway, g in self.heard_guests.items() if rendition in g.viewers]
        return [self.owner, *guests] if own and self.owner is not None else guests


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
        lease = self._leases[session] = Lease(session, owner, epoch, now_s)
        if known is not None:
            known.guests.pop(owner, None)
            lease.guests = known.guests
        return True

    def claim(self, session: str, owner: Hashable, epoch: int, now_s: float) -> Lease | None:
        """Give the lease to the claimant if its epoch is higher, and return it."""
        lease = self._leases.get(session)
        if lease is None or epoch <= lease.epoch:
            return None
        lease.owner, lease.epoch, lease.heard_s, lease.stage = owner, epoch, now_s, LeaseStage.HELD
        lease.guests.pop(owner, None)
        lease.told = None
        return lease

    def orphans(self) -> list[Lease]:
        """Those that may be claimed because nobody has been heard of that holds them."""
        return [lease for lease in self if (lease.stage or lease.owner is None) and not lease.closing]

    def held(self) -> list[Lease]:
        """Those whose owners are alive."""
        return [lease for lease in self if lease.owner is not None and not (lease.stage or lease.closing)]

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
