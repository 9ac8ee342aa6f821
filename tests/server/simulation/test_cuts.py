"""The connection between the gateway that owns a session and the worker that runs it is cut, silently, while
all else is fine. Another gateway reaches everybody. Seconds are virtual."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from engine.types import Control, Prompt, Receipt, SessionClosed
from server.gateway.gateway import Gateway
from tests.rigs.simulation.cluster import Node
from tests.rigs.simulation.verdict import copies_of
from tests.rigs.simulation.world import World, simulate

SEED = 1
FAILOVER_S = 7.5  # six seconds, and what passes between two looks
SOON_S = 0.5


class Cut:
    """g1 owns the session, which `worker` runs. g2 shows it too, if `guest`."""

    def __init__(self, world: World, *, guest: bool, steer: bool) -> None:
        self.world, self.guest, self.steer = world, guest, steer
        self.cluster, self.clients = world.cluster, world.clients
        self.g1, self.g2, *self.more = world.cluster.gateways

    async def begin(self) -> None:
        await self.world.start()
        await asyncio.sleep(3.5)  # the directory has settled
        await self.at(self.g1, self.clients.open(self.g1))
        (self.name,) = self.clients.fates
        self.session = gateway_of(self.g1).session(self.name)
        self.worker = self.cluster.node(self.session.worker)
        for node in (self.g1, *[self.g2][: self.guest], *self.more):
            await self.at(node, self.clients.watch(node, self.name))
        if self.steer:
            await self.at(self.g2, self.clients.send(self.g2, self.name, Prompt("a fox")))
        await asyncio.sleep(3.0)
        self.cluster.network.cut("g1", self.worker.name, seen=False, one_way=False)

    async def at(self, node: Node, work: Coroutine[Any, Any, Any]) -> Any:
        """This process does it."""
        assert node.process is not None
        return await node.process.spawn(work, "script")

    async def until(self, true: Callable[[], bool], within_s: float) -> None:
        async with asyncio.timeout(within_s):
            while not true():  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    @property
    def copies(self) -> list[Node]:
        return copies_of(self.cluster, self.name)

    async def failover(self) -> None:
        await self.until(lambda: self.session.worker != self.worker.name, FAILOVER_S)

    async def dropped(self) -> None:
        await self.until(lambda: len(self.copies) == 1 and self.worker not in self.copies, SOON_S)


def gateway_of(node: Node) -> Gateway:
    assert node.gateway is not None
    return node.gateway


def played(
    script: Callable[[Cut], Awaitable[None]],
    *,
    joined: bool,
    guest: bool = True,
    steer: bool = False,
    gateways: int = 2,
) -> None:
    """Play it; nobody may be shown anything twice, or something older than before."""

    async def play(world: World) -> None:
        cut = Cut(world, guest=guest, steer=steer)
        await cut.begin()
        await script(cut)
        world.outcome.wrong += world.clients.wrong

    assert simulate(SEED, [], gateways=gateways, joined=joined, script=play).wrong == []


@pytest.mark.parametrize("joined", [True, False])
def test_the_worker_drops_its_copy_as_soon_as_the_session_goes_on_elsewhere(joined: bool) -> None:
    """With a directory it kept the copy for two minutes, and the guest's viewers were shown that one."""

    async def script(cut: Cut) -> None:
        await cut.failover()
        await cut.dropped()
        if not joined:  # it had claimed the session, and its viewers join again
            ends = [e for e in cut.g2.heard if isinstance(e, SessionClosed) and e.session == cut.name]
            assert [end.code for end in ends] == ["fenced"]
            await cut.at(cut.g2, cut.clients.watch(cut.g2, cut.name))
        guest = gateway_of(cut.g2).guests.of(cut.name)
        assert guest is not None
        await cut.until(lambda: guest.worker is not None and guest.worker.name == cut.session.worker, SOON_S)
        shown = cut.clients.viewers[0][0], cut.clients.viewers[-1][0]
        counts = [len(seen.packets) for seen in shown]
        await asyncio.sleep(3.0)
        assert all(len(seen.packets) > count for seen, count in zip(shown, counts, strict=True))
        assert shown[0].packets[-1][1] == shown[1].packets[-1][1]

    played(script, joined=joined)


def test_so_it_does_if_nobody_watches_at_the_other_gateway() -> None:
    async def script(cut: Cut) -> None:
        await cut.failover()
        await cut.dropped()

    played(script, joined=True, guest=False)


def test_what_a_guests_viewer_steers_meanwhile_takes_effect_once() -> None:
    async def script(cut: Cut) -> None:
        await asyncio.sleep(1.5)
        await cut.at(cut.g2, cut.clients.send(cut.g2, cut.name, Prompt("a cat")))
        await cut.failover()
        (sent,) = cut.clients.sent
        await asyncio.sleep(4.0)
        device = cut.copies[0].device
        assert device is not None
        assert device.copies[cut.name].effects == [sent.control]
        assert cut.clients.unanswered_controls() == []

    played(script, joined=True)


def test_of_a_cut_that_heals_in_time_nothing_is_remembered() -> None:
    """The other gateway believed for ever that nobody held the session, and claimed it from its owner when
    the directory had not heard of that one for a moment."""

    async def script(cut: Cut) -> None:
        offers = gateway_of(cut.g2).parts.adoption._offers
        guest = gateway_of(cut.g2).guests.of(cut.name)
        assert guest is not None
        await cut.until(lambda: cut.name in offers, 5.0)
        assert guest.abandoned
        cut.cluster.network.heal("g1", cut.worker.name)
        await cut.until(lambda: cut.name not in offers and not guest.abandoned, 3.0)
        assert cut.session.worker == cut.worker.name

    played(script, joined=True)


def answer_to(node: Node, control: str) -> Receipt:
    """The latest that its client was told."""
    return next(e for e in reversed(node.heard) if isinstance(e, Receipt) and e.id == control)


def test_what_was_steered_in_the_copy_that_is_ended_is_steered_again_once() -> None:
    """Its client had been told that it was applied, and did not learn that it was lost."""

    async def script(cut: Cut) -> None:
        g2, clients = gateway_of(cut.g2), cut.clients
        await cut.until(lambda: cut.name in g2.sessions and not cut.session.orphaned, 5.0)
        await cut.at(cut.g2, clients.send(cut.g2, cut.name, Prompt("a cat")))
        await cut.until(lambda: cut.name not in g2.sessions, FAILOVER_S)
        early, late = (sent.control for sent in clients.sent)
        first, after = next(
            e.lost_frames for e in cut.g2.heard if isinstance(e, SessionClosed) and e.session == cut.name
        )
        frames = [answer_to(cut.g2, control).frame or 0 for control in (early, late)]
        assert frames[0] < first <= frames[1] < after
        await cut.at(cut.g2, clients.watch(cut.g2, cut.name))
        for control in (early, late):  # the first one need not be sent again, and does no harm
            g2.shown.submit(cut.name, Control(control, Prompt("a cat")))
        await asyncio.sleep(4.0)
        device = cut.copies[0].device
        assert device is not None
        assert device.copies[cut.name].effects == [early, late]
        assert (answer_to(cut.g2, late).frame or 0) > frames[1]
        assert cut.session.answers[late].status == "applied"

    played(script, joined=False, steer=True)


def test_who_followed_to_another_worker_as_a_guest_is_told_so_too() -> None:
    """g2 claims the session and g3's viewers see that copy, until g1 goes on in another worker."""

    async def script(cut: Cut) -> None:
        g3 = cut.cluster.gateways[2]
        guests = gateway_of(g3).guests
        await cut.until(lambda: cut.name in gateway_of(cut.g2).sessions, 5.0)
        await cut.at(g3, cut.clients.send(g3, cut.name, Prompt("a cat")))
        (sent,) = cut.clients.sent
        await cut.failover()
        guest = guests.of(cut.name)
        assert guest is not None
        await cut.until(lambda: guest.worker is not None and guest.worker.name != cut.worker.name, 3.0)
        frame = answer_to(g3, sent.control).frame
        assert frame in range(*guest.session.lost_frames)
        guests.submit(cut.name, Control(sent.control, Prompt("a cat")))
        await asyncio.sleep(4.0)
        device = cut.copies[0].device
        assert device is not None
        assert device.copies[cut.name].effects == [sent.control]

    played(script, joined=False, guest=False, gateways=3)
