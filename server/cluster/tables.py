"""The directory's tables: which workers and gateways there are, which gateway has which session.

They are soft: everything in them is what members say, each second, and is rebuilt from that after a restart.
Members are known by their connections. Pure: no sockets, and the time is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace

from engine.errors import Unavailable
from server.cluster.checks import check_host, check_join, check_report, check_worker_name
from server.cluster.drains import Drains
from server.cluster.messages import (
    GATEWAY_FAULT,
    ClientUse,
    CopyEntry,
    GatewayEntry,
    GatewayReport,
    JoinGateway,
    JoinWorker,
    Report,
    Roster,
    WorkerEntry,
    WorkerReport,
)
from server.cluster.owners import MAX_MOVED, Owners
from server.worker.epochs import rank

SILENT_S, LOST_S = 3.0, 6.0  # without a report: not ready, dropped
BACK_S = 2.0  # how long a member whose connection is closed may take to come back
SETTLE_S = 3.0  # after a start: until then members may be missing
MAX_WORKERS, MAX_GATEWAYS = 1024, 256
MAX_CLIENTS = 1024  # of which a gateway is told


class NameTaken(Unavailable):
    """Another member that lives has this name."""

    code = "name_taken"


@dataclass
class _Member:
    connection: Hashable | None  # None: it is closed
    heard_s: float  # when it reported last, or its connection was closed
    instance: str

    def silent(self, now_s: float) -> bool:
        return self.connection is None or now_s - self.heard_s >= SILENT_S

    def over(self, now_s: float) -> bool:
        return now_s - self.heard_s >= (BACK_S if self.connection is None else LOST_S)


@dataclass
class _Worker(_Member):
    entry: WorkerEntry


@dataclass
class _Gateway(_Member):
    entry: GatewayEntry
    open: dict[str, int] = field(default_factory=dict)
    copies: dict[str, CopyEntry] = field(default_factory=dict)
    elsewhere: dict[str, float] = field(default_factory=dict)  # device seconds it has not been told of yet


class Tables:
    """`look` must be called several times a second."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since_s = clock()
        self._workers: dict[str, _Worker] = {}
        self._gateways: dict[str, _Gateway] = {}
        self._drained, self._drained_workers = Drains("hosts"), Drains("workers")
        self._retired: set[str] = set()  # workers
        self._owners = Owners(self._since_s)

    # ---- what members say ----

    def join(self, connection: Hashable, message: JoinWorker | JoinGateway) -> None:
        """Raises InvalidInput, NameTaken, Unavailable."""
        check_join(message)
        now_s = self._clock()
        if isinstance(message, JoinWorker):
            self._admit(self._workers, message, MAX_WORKERS, now_s)
            entry = WorkerEntry(message.name, message.url, message.host, labels=message.labels)
            self._workers[message.name] = _Worker(connection, now_s, message.instance, entry)
            if message.draining:
                self._drained.remembered([message.host])
        else:
            known = self._admit(self._gateways, message, MAX_GATEWAYS, now_s)
            gateway = _Gateway(connection, now_s, message.instance, GatewayEntry(message.name, message.url))
            if isinstance(known, _Gateway) and known.instance == message.instance:
                gateway.open, gateway.elsewhere = known.open, known.elsewhere
            self._gateways[message.name] = gateway
            self._drained.remembered(message.drained)
            self._drained_workers.remembered(message.drained_workers)

    def _admit(
        self,
        members: dict[str, _Worker] | dict[str, _Gateway],
        message: JoinWorker | JoinGateway,
        most: int,
        now_s: float,
    ) -> _Member | None:
        known: _Member | None = members.get(message.name)
        if known is not None and known.instance != message.instance and not known.silent(now_s):
            raise NameTaken(
                f"the name {message.name} is taken by another member that is running: give --name",
                field="name",
            )
        if known is None and len(members) >= most:
            raise Unavailable(f"the directory has {most} members of this kind, which is the most")
        return known

    def report(self, connection: Hashable, report: Report) -> None:
        """Of a member that has joined; others are ignored. Raises InvalidInput."""
        check_report(report)
        now_s = self._clock()
        if isinstance(report, WorkerReport):
            for worker in self._workers.values():
                if worker.connection == connection:
                    worker.heard_s = now_s
                    worker.entry = replace(worker.entry, sessions=report.sessions, capacity=report.capacity)
        else:
            for gateway in self._gateways.values():
                if gateway.connection == connection:
                    gateway.heard_s = now_s
                    self._reported(gateway, report)

    def _reported(self, gateway: _Gateway, report: GatewayReport) -> None:
        gateway.entry = replace(gateway.entry, sessions=report.sessions, faults=report.faults)
        gateway.open = dict(report.open)
        name = gateway.entry.name
        gateway.copies = {session: replace(copy, gateway=name) for session, copy in report.copies.items()}
        self._owners.told(gateway.entry.name, report.adopted, self._clock())
        for other in self._gateways.values():
            if other is not gateway:
                for client, used_s in report.used.items():
                    if client in other.elsewhere or len(other.elsewhere) < MAX_CLIENTS:
                        other.elsewhere[client] = other.elsewhere.get(client, 0.0) + used_s

    def gone(self, connection: Hashable) -> None:
        """A connection is closed."""
        for member in (*self._workers.values(), *self._gateways.values()):
            if member.connection == connection:
                member.connection, member.heard_s = None, self._clock()

    # ---- what operators say ----

    def drain(self, host: str) -> None:
        """Raises InvalidInput, and Unavailable if too many hosts are drained."""
        check_host(host)
        self._drained.add(host)

    def take_back(self, host: str) -> None:
        """Raises InvalidInput."""
        check_host(host)
        self._drained.end(host)

    @property
    def drained(self) -> frozenset[str]:
        """Hosts."""
        return frozenset(self._drained)

    def drain_worker(self, worker: str) -> None:
        """Raises InvalidInput, and Unavailable if too many workers are drained."""
        check_worker_name(worker)
        self._drained_workers.add(worker)

    def take_back_worker(self, worker: str) -> None:
        """Raises InvalidInput."""
        check_worker_name(worker)
        self._drained_workers.end(worker)

    # ---- what placement says ----

    def retire(self, worker: str) -> None:
        """Drain this worker, but not its host."""
        if worker in self._workers:
            self._retired.add(worker)

    def keep(self, worker: str) -> None:
        """End that."""
        self._retired.discard(worker)

    def is_retired(self, worker: str) -> bool:
        return worker in self._retired

    # ---- what time does ----

    def look(self) -> list[Hashable]:
        """Drop members that are lost, and appoint a gateway for `main`. Returns the connections to close."""
        now_s = self._clock()
        closed: list[Hashable] = []
        for members in (self._workers, self._gateways):
            for name, member in list(members.items()):
                if member.over(now_s):
                    del members[name]
                    self._retired.discard(name)
                    if member.connection is not None:
                        closed.append(member.connection)
                    if isinstance(member, _Gateway):
                        self._owners.gone(name, now_s)
        ready = [name for name, gateway in self._gateways.items() if not gateway.silent(now_s)]
        self._owners.appoint(ready, now_s)
        return closed

    # ---- what they are told ----

    def roster(self) -> Roster:
        """For those who watch."""
        now_s = self._clock()
        return Roster(
            tuple(self._shown(name, worker, now_s) for name, worker in sorted(self._workers.items())),
            tuple(
                replace(gateway.entry, ready=not gateway.silent(now_s))
                for _, gateway in sorted(self._gateways.items())
            ),
            dict(self._owners.moved),
            self._owners.main,
            settled=now_s - self._since_s >= SETTLE_S,
            drained=tuple(self._drained),
            drained_workers=tuple(self._drained_workers),
            copies=self._contested(now_s),
        )

    def _contested(self, now_s: float) -> dict[str, CopyEntry]:
        """Of sessions that more than one gateway has the right copy, of gateways that live."""
        found: dict[str, CopyEntry] = {}
        contested = set[str]()
        for gateway in self._gateways.values():
            for session, copy in {} if gateway.silent(now_s) else gateway.copies.items():
                known = found.setdefault(session, copy)
                if known is not copy:
                    contested.add(session)
                    found[session] = max(known, copy, key=lambda each: rank(each.epoch, each.instance))
        return {session: found[session] for session in sorted(contested)[:MAX_MOVED]}

    def _shown(self, name: str, worker: _Worker, now_s: float) -> WorkerEntry:
        host, alone = worker.entry.host in self._drained, name in self._retired | set(self._drained_workers)
        return replace(
            worker.entry, draining=host or alone, retired=alone and not host, ready=not worker.silent(now_s)
        )

    def elsewhere(self, connection: Hashable) -> dict[str, ClientUse]:
        """What clients have at other gateways than this one. What it is told of is counted no more."""
        own = next((g for g in self._gateways.values() if g.connection == connection), None)
        if own is None:
            return {}
        used, own.elsewhere = own.elsewhere, {}
        sessions: dict[str, int] = {}
        for gateway in self._gateways.values():
            if gateway is not own:
                for client, count in gateway.open.items():
                    sessions[client] = sessions.get(client, 0) + count
        names = sorted({*used, *sessions}, key=lambda name: (-used.get(name, 0.0), -sessions.get(name, 0)))
        return {name: ClientUse(sessions.get(name, 0), used.get(name, 0.0)) for name in names[:MAX_CLIENTS]}


def _of_gateways(faults: dict[str, str]) -> dict[str, str]:
    """Which gateways cannot be reached, so that these learn of it."""
    return {name: why for name, why in faults.items() if name.startswith(GATEWAY_FAULT)}


def for_members(roster: Roster) -> Roster:
    """Without what only those who watch are told."""
    return replace(
        roster,
        workers=tuple(replace(worker, sessions=0, capacity=None) for worker in roster.workers),
        gateways=tuple(
            replace(gateway, sessions=0, faults=_of_gateways(gateway.faults)) for gateway in roster.gateways
        ),
    )
