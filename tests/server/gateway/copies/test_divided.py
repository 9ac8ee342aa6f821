"""A divided network left two gateways with a copy each, or closed a session in one half only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest

from engine.types import OpenSession, SessionClosed
from server.control.base import SessionEvent
from server.gateway.gateway import Gateway
from server.metrics import Metrics
from server.worker.base import MakeWorker, OnEvent
from server.worker.epochs import CLOSED, claimed, copied
from server.worker.hosting.host import Host
from server.worker.messages.events import Packet
from server.worker.messages.holding import ClaimSession, EndCopy, Fenced, Orphaned, Watched
from server.worker.remote import RemoteWorker
from tests.rigs.server.port_rig import KEY as WORKER_KEY
from tests.rigs.server.port_rig import listening, remote, vanish
from tests.rigs.server.server_rig import config, gateway, opened, packet, recorded, until
from tests.server.gateway.guests.gateways import KEY, connected
from tests.server.gateway.replacement import told


class Cable:
    """Between a gateway and a worker: nothing gets through while it is cut, and both ends notice."""

    def __init__(self, port: int) -> None:
        self._port, self._made, self._cut = port, list[RemoteWorker](), False

    def make(self, on_event: OnEvent) -> RemoteWorker:
        made = remote(1 if self._cut else self._port, on_event)  # nobody listens there
        self._made.append(made)
        return made

    def cut(self) -> None:
        self._cut = True
        connection = self._made[-1]._link._connection
        assert connection is not None
        connection.abort()

    def heal(self) -> None:
        self._cut = False


@asynccontextmanager
async def cluster(workers: int) -> AsyncIterator[tuple[list[Gateway], list[Host], list[list[Cable]]]]:
    """Two gateways without a directory, the workers, and the cables of each gateway."""
    async with AsyncExitStack() as stack:
        found = [await stack.enter_async_context(listening()) for _ in range(workers)]
        cables = [[Cable(port) for _, port in found] for _ in range(2)]
        gates: list[Gateway] = []
        for own in cables:
            makers: list[MakeWorker] = [cable.make for cable in own]
            gates += await stack.enter_async_context(connected(makers, 1))
        yield gates, [host for host, _ in found], cables


def holders(hosts: list[Host], session: str) -> list[int]:
    return [n for n, host in enumerate(hosts) if host.mail.leases.get(session) is not None]


async def divided(
    gates: list[Gateway], hosts: list[Host], cables: list[list[Cable]]
) -> tuple[str, Callable[[], None]]:
    """A session that runs in two workers with the same epoch, one for each gateway, and what heals it."""
    one, two = gates
    mine = await one.open("a dog", 5)
    first = int(mine.worker[1:]) - 1
    second, third = [n for n in range(3) if n != first]
    cables[1][second].cut()
    cables[0][third].cut()
    cables[0][first].cut()
    await until(lambda: mine.worker == f"w{second + 1}" and not mine.orphaned, "failover")
    await until(lambda: mine.id in two.sessions, "the claim")
    theirs = two.session(mine.id)
    cables[1][first].cut()
    await until(lambda: theirs.worker == f"w{third + 1}" and not theirs.orphaned, "failover")
    assert mine.lease_epoch == theirs.lease_epoch == copied(1)

    def heal() -> None:
        for cable in (*cables[0], *cables[1]):
            cable.heal()

    return mine.id, heal


def instance(host: Host) -> str:
    return host._ready.result().instance


async def test_of_two_copies_that_are_equally_new_both_gateways_keep_the_same() -> None:
    """They went on with one each for ever."""
    async with cluster(3) as (gates, hosts, cables):
        name, heal = await divided(gates, hosts, cables)
        both = [int(gate.session(name).worker[1:]) - 1 for gate in gates]
        assert sorted({*both, *holders(hosts, name)}) == [0, 1, 2]  # an old copy is out of reach of both
        heal()
        await until(lambda: len(holders(hosts, name)) == 1, "one copy", 30.0)
        (kept,) = holders(hosts, name)
        assert instance(hosts[kept]) == max(instance(hosts[n]) for n in both)
        await until(lambda: sum(name in gate.sessions for gate in gates) == 1, "one owner")
        owner = next(gate for gate in gates if name in gate.sessions)
        assert owner.session(name).worker == f"w{kept + 1}"


@pytest.mark.parametrize("closer", [0, 1])
async def test_what_is_closed_in_one_half_is_closed_in_the_other_once_they_meet(closer: int) -> None:
    """The other half's copy lived on."""
    async with cluster(3) as (gates, hosts, cables):
        name, heal = await divided(gates, hosts, cables)
        await gates[closer].close_session(name)
        assert len(holders(hosts, name)) == 2
        assert name in gates[1 - closer].sessions
        heal()
        await until(lambda: not holders(hosts, name), "no copy", 30.0)
        await until(lambda: not any(name in gate.sessions for gate in gates), "no owner")


async def test_a_close_is_known_to_the_others_if_the_worker_and_the_gateway_are_lost() -> None:
    """The worker came back with the session, and another gateway took it over."""
    async with cluster(2) as (gates, hosts, cables):
        one, two = gates
        mine = await one.open("a dog", 5)
        first = int(mine.worker[1:]) - 1
        one.fleet.named(f"w{2 - first}").draining = True  # so it is not restored there
        cables[0][first].cut()
        cables[1][first].cut()
        await until(lambda: mine.orphaned, "the loss")
        await one.close_session(mine.id)
        await until(lambda: two.fleet.ending.known.epoch(mine.id) == CLOSED, "word of it")
        vanish(one)
        assert holders(hosts, mine.id) == [first]
        cables[1][first].heal()
        await until(lambda: not holders(hosts, mine.id), "its end", 30.0)
        assert mine.id not in two.sessions


async def test_a_close_is_carried_out_though_another_gateway_has_claimed_the_session() -> None:
    """Its client was told that it was closed."""
    async with gateway() as (gate, (worker,), _):
        mine = await gate.open("a dog")
        worker.outlives_gateway = worker.mute = True
        mine.closing = True
        worker.tell(Fenced(mine.id, claimed(1)))
        assert mine.closed.is_set()
        assert told(worker, mine.id)[1:] == [EndCopy(mine.id, CLOSED)]
        worker.tell(Orphaned(mine.id, claimed(1)))
        assert told(worker, mine.id)[1:] == [EndCopy(mine.id, CLOSED)] * 2


async def test_a_session_that_nobody_used_in_one_half_goes_on_in_the_other() -> None:
    async with gateway() as (gate, workers, _):
        mine = await gate.open("a dog")
        worker = workers[0]
        worker.outlives_gateway = worker.mute = True
        gate.parts.opener.drop(mine, "idle", "nobody has watched or steered it for a while")
        before = len(told(worker, mine.id))
        worker.tell(Fenced(mine.id, 1))
        assert told(worker, mine.id)[before:] == []
        worker.tell(Orphaned(mine.id, 1))  # nobody holds it
        assert told(worker, mine.id)[before:] == [EndCopy(mine.id, claimed(1))]


async def test_a_session_of_our_last_connection_is_resumed_though_the_worker_still_waits_for_that() -> None:
    """It was opened from an old snapshot."""
    async with gateway() as (gate, workers, _):
        mine = await gate.open("a dog")
        workers[0].held = (Fenced(mine.id, 1),)
        workers[0].outlives_gateway = True
        workers[0].die()
        await until(lambda: len(workers) == 2 and gate.ready, "its return")
        assert told(workers[1], mine.id)[0] == ClaimSession(mine.id, claimed(1))
        assert mine.id in gate.sessions
        assert mine.id not in {order.opening.session for order in workers[1].restored}


async def test_a_session_that_another_gateway_has_claimed_meanwhile_is_left_to_it() -> None:
    """It was opened again from an older snapshot, and the other gateway's viewers lost what came since."""
    async with gateway() as (gate, workers, _):
        mine = await gate.open("a dog")
        workers[0].held = (Fenced(mine.id, claimed(1)),)
        workers[0].outlives_gateway = True
        workers[0].die()
        await until(lambda: len(workers) == 2 and gate.ready, "its return")
        assert mine.id not in gate.sessions
        assert told(workers[1], mine.id) == []


async def test_gateways_without_a_directory_have_one_main() -> None:
    """The second one did not start, since the first one had it; or, if it asked another worker, opened one of
    its own."""
    async with listening() as (one, port), listening() as (other, far), AsyncExitStack() as stack:
        settings = config(placement="remote", host="192.0.2.1", api_key=KEY, worker_key=WORKER_KEY)
        gates = []
        for ports in ((port, far), (port, far), (far, port)):
            makers: list[MakeWorker] = [lambda hear, port=each: remote(port, hear) for each in ports]  # type: ignore[misc]
            gates.append(await stack.enter_async_context(Gateway(settings, makers, Metrics())))
        assert [gate.session_ids() for gate in gates] == [["main"], [], []]
        assert holders([one, other], "main") == [0]
        vanish(gates[0])
        await until(lambda: [*gates[1].session_ids(), *gates[2].session_ids()] == ["main"], "the claim")
        owner = next(gate for gate in gates[1:] if gate.session_ids())
        owner.parts.opener.drop(owner.session("main"), "idle", "it was broken")
        await until(lambda: any(gate.session_ids() for gate in gates[1:]), "another one", 30.0)
        assert len(holders([one, other], "main")) == 1


@pytest.mark.parametrize("back", [packet(12, session="s"), replace(packet(16, session="s"), pts_90k=80_000)])
async def test_a_guest_ends_before_an_older_copy_turns_its_frames_or_time_back(back: Packet) -> None:
    """Its worker's copy was ended, since another gateway had gone on with the session from an older one."""
    async with gateway(workers=2) as (gate, workers, _):
        heard: list[SessionEvent] = []
        gate.sessions.listen(heard.append, guests=True)
        await until(lambda: len([worker for worker in gate.fleet if worker.ready]) == 2, "workers")
        one, two = workers
        for worker in workers:
            worker.outlives_gateway = True
        finding = asyncio.create_task(gate.guests.find("s"))
        await until(lambda: gate.guests.of("s"), "search")
        info = opened(OpenSession("s", "a dog", 5))
        one.tell(Watched("s", claimed(1), info, b""))
        guest = await finding
        assert guest is not None
        sent = recorded(guest.fanout)
        for frame in (8, 15, 15):  # a picture that stands still is repeated
            one.tell(packet(frame, session="s"))
        two.tell(Watched("s", copied(1), info, b""))
        two.tell(back)
        assert [each.frame for each in sent] == [8, 15, 15]
        assert guest.fanout.closed
        assert [e.code for e in heard if isinstance(e, SessionClosed) and e.session == "s"] == ["moved"]
