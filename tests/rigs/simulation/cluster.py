"""Gateways and workers as pretended processes that can be killed, stopped and started again."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from engine.errors import PsistreamError
from engine.types import OpenSession, SessionClosed
from server.cluster.directory import Directory
from server.cluster.membership import Membership
from server.cluster.messages import JoinWorker, WorkerReport
from server.control.base import SessionEvent
from server.gateway.gateway import Gateway
from server.metrics import Metrics
from server.storage import StorageConfig
from server.worker.base import Event, MakeWorker, OnEvent, Order, RestoreSession, WorkerLost
from server.worker.core import Emit
from server.worker.hosting.host import Host
from server.worker.hosting.leases import LeaseStage
from server.worker.messages.commands import CloseSession, SubmitControl
from server.worker.messages.holding import (
    Answered,
    Claimed,
    ClaimSession,
    EndCopy,
    Fenced,
    LeaveSession,
    Moved,
    Orphaned,
    Submitted,
    Watched,
    WatchSession,
)
from server.worker.remote import RemoteWorker, WorkerAddress
from tests.rigs.server.port_rig import KEY
from tests.rigs.server.server_rig import config
from tests.rigs.simulation.device import Device
from tests.rigs.simulation.effects import Effects
from tests.rigs.simulation.loop import PROCESS, Process, VirtualLoop
from tests.rigs.simulation.network import Network
from tests.rigs.simulation.sizes import Limits

API_KEY = "0123456789abcdeffedcba9876543210"
PORT = 7070
DIRECTORY = "d"
TOLD = (Orphaned, Claimed, Fenced, SessionClosed, Watched, Submitted, Answered, Moved, WorkerLost)
ORDERED = (
    *(OpenSession, RestoreSession, CloseSession, ClaimSession, WatchSession, LeaveSession, Answered, Moved),
    *(SubmitControl, EndCopy),
)
METRICS = Metrics()  # one for all, since making it takes longer than a minute of virtual time


class Node:
    """A host with one process, or none for the moment."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process: Process | None = None
        self.runs = 0  # how many processes there have been
        self.lost = False  # for good
        self.gateway: Gateway | None = None  # once it has started
        self.heard: list[SessionEvent] = []  # by the listeners of this gateway
        self.host: Host | None = None
        self.device: Device | None = None
        self.membership: Membership | None = None

    @property
    def alive(self) -> bool:
        return self.process is not None and not self.process.dead


class SimulatedCluster:
    """`joined`: gateways and workers know each other from a directory; otherwise all gateways know all
    workers."""

    def __init__(self, loop: VirtualLoop, seed: int, gateways: int, workers: int, *, joined: bool) -> None:
        self.loop, self.joined = loop, joined
        self.network = Network(loop, seed)
        self._chance = random.Random(f"{seed} cluster")
        self.gateways = [Node(f"g{n}") for n in range(1, gateways + 1)]
        self.workers = [Node(f"w{n}") for n in range(1, workers + 1)]
        self.directory = Node(DIRECTORY)
        self.processes: list[Process] = []  # that there have been
        self._buried: list[Any] = []  # whose tasks are cancelled at the end
        self.note: Callable[[str], None] = lambda text: None
        self.effects = Effects(lambda text: self.note(text))
        self.storage: StorageConfig | None = None
        self.kept: Callable[[str], bool] = lambda session: False  # in the store
        self.limits = Limits()
        self.over: set[str] = set()  # sessions that no gateway claimed in time
        self.nodes = [*self.gateways, *self.workers, *([self.directory] if joined else [])]

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def start(self, node: Node) -> None:
        """Start a process there, unless one runs."""
        if node.alive or node.lost:
            return
        node.process = process = Process(node.name, self.loop, self._chance.random() * 1e6)
        self.processes.append(process)
        node.runs += 1
        if node in self.gateways:
            work: Coroutine[Any, Any, None] = self._gateway(node, process)
        elif node in self.workers:
            work = self._worker(node, process)
        else:
            work = self._directory(process)
        process.spawn(work, node.name)

    def kill(self, node: Node) -> None:
        if node.process is not None and node.alive:
            node.process.dead = True
            self._buried += [node.gateway, node.host, node.membership]
            node.gateway = node.host = node.device = None
            self.network.killed(node.process)

    def stop(self, node: Node) -> None:
        if node.process is not None:
            node.process.stopped = True

    def go_on(self, node: Node) -> None:
        if node.process is not None and node.process.stopped and not node.process.dead:
            node.process.go_on()

    # ---- what processes do ----

    async def _gateway(self, node: Node, process: Process) -> None:
        """If it cannot start, it is started again."""
        settings = config(
            placement="remote", host="192.0.2.1", api_key=API_KEY, worker_key=KEY, workers=len(self.workers)
        )
        if self.joined:
            join, url = f"tcp://{DIRECTORY}:{PORT}", f"http://{node.name}:1"
            settings = replace(settings, name=node.name, advertise=url, join=join)
        settings = replace(
            settings,
            storage=self.storage,
            client_sessions=self.limits.client_sessions,
            client_device_s=self.limits.client_device_s,
        )
        addresses = [] if self.joined else [WorkerAddress(each.name, PORT) for each in self.workers]
        makers: list[MakeWorker] = [
            partial(self.remote, address, KEY, None, clock=process.clock) for address in addresses
        ]
        while True:
            with contextlib.suppress(PsistreamError):
                gateway = Gateway(settings, makers, METRICS, process.clock, process.wall_clock)
                await gateway.__aenter__()
                break
            await asyncio.sleep(1.0)
        heard: list[SessionEvent] = []
        node.heard = heard
        gateway.sessions.listen(heard.append, guests=True)
        gateway.sessions.listen(partial(self._ended, node), guests=True)
        node.gateway = gateway

    def _ended(self, node: Node, event: SessionEvent) -> None:
        if isinstance(event, SessionClosed):
            self.note(f"{node.name}: {event.session} has ended: {event.code}: {event.message}")

    async def _worker(self, node: Node, process: Process) -> None:
        node.host = host = Host(KEY, private=False, clock=process.clock)
        self.network.listen(process, host.entrance.connection)

        def load(emit: Emit) -> Any:
            node.device = Device(emit, process.clock, self.effects, self.limits)
            node.device.on_close = lambda session: self._closing(host, session)
            return node.device

        if self.joined:
            self._join(node, host, process.clock)
        await host.run(load)

    def _closing(self, host: Host, session: str) -> None:
        lease = host.mail.leases.get(session)
        if lease is not None and lease.stage is LeaseStage.OVER:
            self.over.add(session)

    def _join(self, node: Node, host: Host, clock: Callable[[], float]) -> None:
        join = JoinWorker(node.name, f"tcp://{node.name}:{PORT}", node.name, {}, f"{node.name} {node.runs}")

        def report() -> WorkerReport:
            return WorkerReport(host.mail.capacity, sum(1 for _ in host.mail.leases))

        address = WorkerAddress(DIRECTORY, PORT)
        node.membership = Membership(address, KEY, None, lambda: join, report=report, clock=clock)
        node.membership.start()

    async def _directory(self, process: Process) -> None:
        directory = Directory(KEY, process.clock)
        self.network.listen(process, directory.entrance.connection)
        await directory.run()

    def remote(
        self,
        address: WorkerAddress,
        key: bytes,
        ca: Path | None,
        on_event: OnEvent,
        clock: Callable[[], float],
    ) -> RemoteWorker:
        """A RemoteWorker whose messages about sessions are noted, but for those that come all the time."""
        process = PROCESS.get()
        pair = process.name if process else "", address.host

        def hear(event: Event) -> None:
            if isinstance(event, TOLD):
                self.note("    {} < {}: ".format(*pair) + _short(event))
            on_event(event)

        made = RemoteWorker(address, key, ca, hear, clock)
        send = made.send

        def say(order: Order) -> None:
            if isinstance(order, ORDERED):
                self.note("    {} > {}: ".format(*pair) + _short(order))
            if isinstance(order, RestoreSession):
                self._restored(process, order)
            send(order)

        made.send = say  # type: ignore[method-assign, assignment]
        return made

    def _restored(self, process: Process | None, order: RestoreSession) -> None:
        gateway = next((node.gateway for node in self.gateways if node.process is process), None)
        session = gateway.sessions.get(order.opening.session) if gateway is not None else None
        if session is not None:
            self.effects.restored(session, order)


def _short(message: object) -> str:
    shown = ("session", "epoch", "code", "control", "receipt", "viewers", "numbers", "segment", "orphans")
    found = {name: getattr(message, name) for name in shown if hasattr(message, name)}
    if isinstance(message, RestoreSession):
        found = {"session": message.opening.session, **found}
    return f"{type(message).__name__} {' '.join(f'{name}={value}' for name, value in found.items())}"
