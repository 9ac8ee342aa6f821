"""Plays a history on a simulated cluster, heals everything and says what is wrong then."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from server.gateway.session import MAIN
from tests.rigs.simulation import limits
from tests.rigs.simulation.branches import Branches
from tests.rigs.simulation.clients import CLOSED, OPEN, PERHAPS, Clients
from tests.rigs.simulation.cluster import Node, SimulatedCluster
from tests.rigs.simulation.device import SimulatedOrders
from tests.rigs.simulation.history import MORE, Step, draw
from tests.rigs.simulation.loop import PROCESS, VirtualLoop, quiet, seeded
from tests.rigs.simulation.operators import Operators
from tests.rigs.simulation.sizes import TIGHT
from tests.rigs.simulation.stores import Stores
from tests.rigs.simulation.verdict import epoch_of, faults, owners_of

ASKED = {"open", "close", "steer", "watch", "move", "drain", "crowd", *MORE["branches"]}
SETTLES_S, EVERY_S = 170.0, 5.0
TAKES_OVER_S = 90.0  # more, until somebody has taken over what a lost gateway has saved
log = logging.getLogger(__name__)


@dataclass
class Outcome:
    """`wrong` is empty if all is well; `notes` say what happened."""

    wrong: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    settled_s: float = 0.0  # after the last fault was healed
    steps: list[Step] = field(default_factory=list)
    digest: int = 0  # of everything that was sent, and when


class World:
    def __init__(self, loop: VirtualLoop, seed: int, gateways: int, workers: int, *, joined: bool) -> None:
        self.loop, self.outcome = loop, Outcome()
        self.cluster = SimulatedCluster(loop, seed, gateways, workers, joined=joined)
        self.cluster.note = self.note
        self.clients = Clients(self.cluster, self.note)
        self.branches, self.operators = Branches(self.clients), Operators(self.cluster, self.clients)
        self.stores = Stores(self.cluster, seed)
        self._healed = False

    def note(self, text: str) -> None:
        self.outcome.notes.append(f"{self.loop.time() - 1000:8.3f} {text}")

    async def start(self) -> None:
        for node in reversed(self.cluster.nodes):
            self.cluster.start(node)
        while not all(node.gateway for node in self.cluster.gateways):  # noqa: ASYNC110
            await asyncio.sleep(0.1)

    async def play(self, steps: Sequence[Step]) -> None:
        await self.start()
        for step in steps:
            await asyncio.sleep(step.after_s)
            self._do(step)
        await asyncio.sleep(1.0)
        self.note("everything is healed")
        self._healed = True
        self.cluster.network.heal_all()
        self.stores.come_back()
        for node in self.cluster.nodes:
            self.cluster.go_on(node)
            self.cluster.start(node)
        healed_s = self.loop.time()
        wrong: list[str] = ["never looked"]
        until_s = (
            healed_s + SETTLES_S + (TAKES_OVER_S if any(node.lost for node in self.cluster.nodes) else 0.0)
        )
        while wrong and self.loop.time() < until_s:
            await asyncio.sleep(EVERY_S)
            self.operators.take_back()
            wrong = faults(self.cluster, self.clients)
        self.outcome.settled_s = self.loop.time() - healed_s
        await self._watch_all()
        if self.cluster.limits is TIGHT:
            for node in self.cluster.gateways:
                self.clients.at(node, limits.probe(self.cluster, self.clients, node))
                await asyncio.sleep(limits.PROBES * limits.EVERY_S + 1.0)
        # once more: a session that slept applies controls once somebody watches it; and one may be moving
        for _ in range(6):
            if wrong := faults(self.cluster, self.clients):
                await asyncio.sleep(EVERY_S)
        self.outcome.wrong = self.clients.wrong + self.cluster.effects.wrong + wrong

    async def _watch_all(self) -> None:
        """Somebody watches each session at each gateway: there must be video."""
        before = len(self.clients.viewers)
        for session, fate in {MAIN: OPEN, **self.clients.fates}.items():
            for node in self.cluster.gateways:
                if fate == OPEN and node.gateway is not None:
                    self.clients.at(node, self.clients.watch(node, session))
        await asyncio.sleep(6.0)
        wanted = [viewer for viewer, _ in self.clients.viewers[before:]]
        counts = [len(viewer.packets) for viewer in wanted]
        await asyncio.sleep(3.0)
        for viewer, count in zip(wanted, counts, strict=True):
            stands = viewer.session.info.paused or viewer.session.buffering is not None
            if not stands and len(viewer.packets) <= count:
                self.clients.wrong.append(f"{viewer.at.name} shows no video of {viewer.session.id}")

    # ---- steps ----

    def _do(self, step: Step) -> None:
        gateways = [node for node in self.cluster.gateways if node.gateway is not None]
        if step.what in ASKED and gateways:
            self._ask(step, gateways[step.a % len(gateways)])
        elif step.what == "leave" and self.clients.viewers:
            seen, subscription = self.clients.viewers.pop(step.a % len(self.clients.viewers))
            if seen.at.runs == seen.run and seen.at.alive:
                self.clients.at(seen.at, self.clients.leave(seen, subscription))
        elif step.what in ("kill gateway", "kill worker"):
            nodes = self.cluster.gateways if step.what == "kill gateway" else self.cluster.workers
            self._kill(nodes[step.a % len(nodes)], step.for_s)
        elif step.what == "lose gateway":
            node = self.cluster.gateways[step.a % len(self.cluster.gateways)]
            if self.stores.lose(node):
                self._kill(node, 0.0)
        elif step.what == "kill all":
            for node in (*self.cluster.gateways, *self.cluster.workers):
                self._kill(node, step.for_s)
        elif step.what == "store away":
            self.stores.go_away(step.for_s)
        elif step.what in ("stop gateway", "stop worker"):
            nodes = self.cluster.gateways if step.what == "stop gateway" else self.cluster.workers
            node = nodes[step.a % len(nodes)]
            self.note(f"{node.name} stopped for {step.for_s:g} s")
            self.cluster.stop(node)
            self.loop.call_later(step.for_s, self._go_on, node)
        elif step.what == "cut":
            self._cut(step, [self._pairs()[step.a % len(self._pairs())]])
        elif step.what == "divide":
            halves = step.a * 3600 + step.b * 60 + step.c
            side = {node.name: halves >> n & 1 for n, node in enumerate(self.cluster.nodes)}
            self._cut(step, [(one, other) for one, other in self._pairs() if side[one] != side[other]])

    def _ask(self, step: Step, node: Node) -> None:
        gateway, clients = node.gateway, self.clients
        assert gateway is not None
        own = [session for session in gateway.sessions if session.opened.done()]
        if step.what == "open":
            clients.at(node, clients.open(node))
        elif step.what == "crowd":
            given = {"prompt": "a cat", "seed": 2, "client": limits.client(step.c)}
            clients.at(node, clients.open(node, f" for {given['client']}", **given))
        elif step.what == "watch" and clients.fates:
            clients.at(node, clients.watch(node, list(clients.fates)[step.b % len(clients.fates)]))
        elif step.what == "close" and own:
            clients.at(node, clients.close(node, own[step.b % len(own)].id))
        elif step.what == "steer":
            names = [s.id for s in own] + [guest.session.id for guest in gateway.guests.all() if guest.known]
            if names:
                clients.at(node, clients.steer(node, names[step.b % len(names)], step.c))
        elif step.what == "move" and own:
            clients.at(node, self.operators.move(node, own[step.b % len(own)].id, step.c))
        elif step.what == "drain":
            clients.at(
                node,
                self.operators.drain(node, self.cluster.workers[step.b % len(self.cluster.workers)].name),
            )
        elif step.what in MORE["branches"]:
            self.branches.ask(step.what, node, [session.id for session in own], step.b, step.c)

    def _kill(self, node: Node, for_s: float) -> None:
        if not node.alive or self._healed:
            return
        before = {name: epoch_of(self.cluster, name) for name in self.clients.fates}
        if node.name in self.clients.unopened:
            self.clients.forgotten.add(node.name)
        self.note(f"{node.name} killed for {for_s:g} s")
        self.cluster.kill(node)
        for name, epoch in before.items():
            if self.clients.fates[name] == OPEN and epoch_of(self.cluster, name) < epoch:
                kept = self.stores.keeps(name)
                self.note(f"{name} is in the store" if kept else f"{name} may be lost")
                self.clients.fates[name] = OPEN if kept else PERHAPS
            elif self.clients.fates[name] == CLOSED and (epoch >= 0 or self.stores.keeps(name)):
                self._closed(node, name)
        self.loop.call_later(for_s, self._start, node)

    def _closed(self, killed: Node, name: str) -> None:
        """Perhaps nobody knows any more that it was closed, or that another gateway had claimed it."""
        if self.clients.closers[name] is killed or owners_of(self.cluster, name):
            self.clients.fates[name] = PERHAPS

    def _start(self, node: Node) -> None:
        if not (node.alive or node.lost):
            self.note(f"{node.name} started")
            self.cluster.start(node)

    def _go_on(self, node: Node) -> None:
        self.note(f"{node.name} goes on")
        self.cluster.go_on(node)

    def _pairs(self) -> list[tuple[str, str]]:
        """Between which there are connections."""
        pairs = [(a.name, b.name) for a in self.cluster.gateways for b in self.cluster.workers]
        if self.cluster.joined:
            pairs += [(a.name, "d") for a in (*self.cluster.gateways, *self.cluster.workers)]
        return pairs

    def _cut(self, step: Step, pairs: list[tuple[str, str]]) -> None:
        seen, one_way = step.b % 3 == 0, step.b % 3 == 1
        how = "seen" if seen else f"silent, {'one way' if one_way else 'both ways'}"
        for one, other in pairs:
            if step.c % 2:
                one, other = other, one
            self.note(f"{one} - {other} cut for {step.for_s:g} s ({how})")
            self.cluster.network.cut(one, other, seen=seen, one_way=one_way)
            self.loop.call_later(step.for_s, self._heal, one, other)

    def _heal(self, one: str, other: str) -> None:
        self.note(f"{one} - {other} healed")
        self.cluster.network.heal(one, other)


def simulate(
    seed: int,
    steps: Sequence[Step] | None = None,
    *,
    gateways: int = 2,
    workers: int = 2,
    joined: bool = False,
    more: Sequence[str] = (),
    script: Callable[[World], Coroutine[Any, Any, None]] | None = None,
) -> Outcome:
    """Play the history of this seed, or these steps, or a script. `more` names what else happens: see
    history."""
    loop = VirtualLoop()  # type: ignore[abstract]
    played = draw(seed, more) if steps is None else list(steps)
    chance = random.Random(f"{seed} secrets")

    def new_id(size: int) -> str:
        """As with a directory, so that notes are easy to read."""
        process = PROCESS.get()
        return f"{'' if joined or process is None else f'{process.name}-'}{chance.getrandbits(32):08x}"

    world = World(loop, seed, gateways, workers, joined=joined)
    if "limits" in more:
        world.cluster.limits = TIGHT
    world.outcome.steps += played
    with (
        quiet(),
        seeded(seed),
        world.cluster.effects.watched(),
        world.stores.used() if "stores" in more else contextlib.nullcontext(),
        patch("server.gateway.cluster.roster_workers.RemoteWorker", world.cluster.remote),
        patch("server.worker.hosting.host.Orders", SimulatedOrders),
        patch("secrets.token_urlsafe", new_id),
        patch("secrets.token_hex", lambda size: f"{chance.getrandbits(32):08x}"),
        patch("secrets.token_bytes", chance.randbytes),
        patch("secrets.randbits", chance.getrandbits),
    ):
        loop.run(_play(world, world.play(played) if script is None else script(world)))
    return world.outcome


async def _play(world: World, history: Coroutine[Any, Any, None]) -> None:
    try:
        await history
    finally:
        world.cluster.network.closed = True
        for process in world.cluster.processes:
            process.go_on()
        own = asyncio.current_task()
        while tasks := [task for task in world.loop.unfinished() if task is not own]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1.0)
    gc.collect()  # tasks that failed unseen say so
    errors = [f"{error.get('exception')!r} {error.get('message')}" for error in world.loop.errors]
    world.outcome.digest = world.cluster.network.digest
    world.outcome.wrong += [f"failed: {error}" for error in errors]
