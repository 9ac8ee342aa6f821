"""A gateway that has joined a directory: its workers are those of the roster (see roster_workers), and it
shares the sessions with other gateways. It knows no HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from typing import TypeVar

from engine.errors import InvalidInput, PsistreamError, Unavailable
from server.cluster.checks import FAULT_CHARS, MAX_FAULTS
from server.cluster.membership import Membership, new_instance
from server.cluster.messages import (
    GATEWAY_FAULT,
    CopyEntry,
    DrainWorker,
    GatewayReport,
    JoinGateway,
    Roster,
    TakeBackWorker,
)
from server.cluster.peers import MOVED, Peers, gateway_in
from server.config import ServerConfig
from server.gateway.adoption import Adoption
from server.gateway.cluster.roster_workers import RosterWorkers
from server.gateway.fleet.fleet import NO_WORKER, Fleet
from server.gateway.fleet.supervisor import Supervisor
from server.gateway.migration import Migration
from server.gateway.opening import Opener
from server.gateway.records.records import Records
from server.gateway.registry import Sessions
from server.gateway.session import MAIN
from server.log_format import escaped
from server.worker.epochs import CLOSED
from server.worker.messages.commands import CloseSession
from server.worker.remote import WorkerAddress
from server.worker.wire.codec import MAX_ITEMS

log = logging.getLogger(__name__)

STALE_S = 4.0  # the last roster is this old: it doesn't tell any more who lives
MAIN_S = 5.0  # a directory that has just started names the gateway of `main` after 3 s
RELEASED = "this gateway is stopping: join again, at another one"

Count = TypeVar("Count", int, float)


class HostDrained(InvalidInput):
    """The worker cannot be taken back, since its whole host is drained."""

    code = "host_drained"


class Joined:
    """`start` returns once a worker runs, and `main` is open if this gateway is to have it; `close` is
    idempotent."""

    def __init__(
        self,
        config: ServerConfig,
        sessions: Sessions,
        fleet: Fleet,
        workers: RosterWorkers,
        migration: Migration,
        opener: Opener,
        adoption: Adoption,
        records: Records,
        peers: Peers,
    ) -> None:
        assert config.join is not None
        self.name = config.name
        self.unreached: Callable[[], Mapping[str, str]] = dict  # gateways, and why
        self._config, self._sessions, self._fleet, self._workers = config, sessions, fleet, workers
        self._migration, self._opener, self._adoption = migration, opener, adoption
        self._records, self._peers = records, peers
        self._address = WorkerAddress.parse(config.join, "--join")
        self._membership: Membership | None = None
        self._heard_s = 0.0  # when the last roster came
        self._served, self._main_known = asyncio.Event(), asyncio.Event()

    async def start(self) -> None:
        """Raises a PsistreamError that another try would not mend."""
        config, instance = self._config, new_instance()
        self._membership = Membership(
            self._address,
            config.worker_key,
            config.worker_ca,
            partial(self._join, instance),
            self.follow,
            self.report,
            self._sessions.now_s,
        )
        self._membership.start()
        self._adoption.on_adopted = self._membership.report_now
        self._adoption.may_claim = self._may_claim
        roster = await self._membership.joined()
        if not roster.workers:
            log.warning("%s; waiting for one", NO_WORKER)
        await self._served.wait()
        with contextlib.suppress(TimeoutError, PsistreamError):  # upkeep goes on trying
            async with asyncio.timeout(MAIN_S):
                await self._main_known.wait()
                await self._opener.open_main()

    def _join(self, instance: str) -> JoinGateway:
        told, config = self.roster, self._config
        return JoinGateway(config.name, config.advertise, instance, told.drained, told.drained_workers)

    def serves(self) -> None:
        """A worker runs."""
        self._served.set()

    async def close(self) -> None:
        if self._membership is not None:
            await self._membership.close()

    @property
    def reached(self) -> bool:
        """Whether the directory answers now."""
        return self._membership is not None and self._membership.fault is None

    @property
    def roster(self) -> Roster:
        """The last one; empty before the first."""
        return Roster(settled=False) if self._membership is None else self._membership.roster

    def report(self) -> GatewayReport:
        own = f"{self.name}-"
        sessions = [session.id for session in self._sessions if session.opened.done()]
        adopted = [name for name in sessions if not name.startswith(own)]
        used, opened = self._sessions.budgets.report()
        faults = {w.name: escaped(w.fault) for w in self._fleet if w.fault and not w.left}
        gateways = {f"{GATEWAY_FAULT}{name}": escaped(why) for name, why in self.unreached().items()}
        faults = {name: why[:FAULT_CHARS] for name, why in (gateways | faults).items()}
        told = dict(islice(faults.items(), MAX_FAULTS))
        adopted = adopted[:MAX_ITEMS]
        copies = self._copies(adopted)
        return GatewayReport(len(sessions), tuple(adopted), _most(used), _most(opened), told, copies)

    def _copies(self, adopted: list[str]) -> dict[str, CopyEntry]:
        """What another gateway may have too: sessions with the name of one, and those that one has reported,
        of which some may have been closed here."""
        also = {session for session, owner in self.roster.moved.items() if owner != self.name}
        found = [session for name in {*adopted, *also} if (session := self._sessions.get(name)) is not None]
        copies = {s.id: CopyEntry(*self._adoption.rank(s)) for s in found if s.opened.done()}
        ended = self._fleet.ending.known
        copies |= {session: CopyEntry(CLOSED) for session in also if ended.epoch(session) >= CLOSED}
        return dict(islice(sorted(copies.items()), MAX_ITEMS))

    # ---- rosters ----

    def follow(self, roster: Roster) -> None:
        """Do what the roster says."""
        self._heard_s = self._sessions.now_s()
        self._peers.update(roster)
        self._sessions.budgets.elsewhere(roster.elsewhere)
        self._workers.follow(roster)
        self._adoption.claim_deferred()
        for session, copy in roster.copies.items():
            if copy.gateway != self.name:
                self._adoption.other_copy(session, (copy.epoch, copy.instance))
        if roster.main:
            self._main_known.set()

    def _may_claim(self, session: str) -> bool:
        """Not while its gateway lives: that has only lost a connection, and resumes the session or continues
        it elsewhere."""
        roster = self.roster
        owner = roster.main if session == MAIN else roster.moved.get(session) or gateway_in(session)
        known = {gateway.name: gateway.ready for gateway in roster.gateways}
        if owner in (None, "", self.name) or self._sessions.now_s() - self._heard_s > STALE_S:
            return True
        return not known.get(owner or "", not roster.settled)

    # ---- what operators say ----

    def drain(self, worker: Supervisor) -> None:
        """Drain this worker, here and at all other gateways. Raises LastWorker, and Unavailable while the
        directory is away."""
        self._require_directory()
        self._migration.drain(worker)
        self._send(DrainWorker(worker.name))

    def resume(self, worker: Supervisor) -> None:
        """End that. Raises HostDrained, and Unavailable while the directory is away."""
        self._require_directory()
        host = next((entry.host for entry in self.roster.workers if entry.name == worker.name), "")
        if host in self.roster.drained:
            raise HostDrained(
                f"{worker.name} is on host {host}, which is drained: psistream cluster take-back {host}",
                field="worker",
            )
        self._migration.resume(worker)
        self._send(TakeBackWorker(worker.name))

    def _require_directory(self) -> None:
        """Raises Unavailable."""
        if not self.reached:
            raise Unavailable("the other gateways cannot be told, since the directory does not answer now")

    def _send(self, order: DrainWorker | TakeBackWorker) -> None:
        assert self._membership is not None
        self._membership.send(order)

    # ---- the end ----

    async def release(self) -> None:
        """Let the sessions live on in their workers, where other gateways claim them at once."""
        await self.close()
        released = []
        for session in self._sessions:
            worker = self._fleet.get(session.worker)
            if session.opened.done() and not session.closing and worker is not None:
                self._records.keep(session, worker)
                released.append(session)
            elif session.closing and worker is not None:
                self._fleet.ending.close(session, worker)
            elif worker is not None:
                worker.try_send(CloseSession(session.id))
        await self._fleet.close()
        for session in released:
            self._sessions.end(session, MOVED, RELEASED)


def _most(counts: dict[str, Count]) -> dict[str, Count]:
    """As many as a report may have, the largest ones."""
    if len(counts) <= MAX_ITEMS:
        return counts
    return dict(sorted(counts.items(), key=lambda item: -item[1])[:MAX_ITEMS])
