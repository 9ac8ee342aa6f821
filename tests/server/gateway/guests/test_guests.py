"""One gateway opens a session, others show it: real gateways and a real worker, over sockets."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from engine.errors import InvalidInput
from engine.types import Action, Control, Pause, Prompt, Receipt, SessionClosed, SessionInfo
from server.control.base import SessionEvent
from server.worker.messages.events import Packet
from tests.rigs.control.network import Relay
from tests.rigs.server.port_rig import listening, vanish
from tests.rigs.server.server_rig import join, recorded, until
from tests.server.gateway.guests.gateways import connected, gateways, maker, renewed, shown


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gateway.upkeep.EVERY_S", 0.01)
    monkeypatch.setattr("server.gateway.guests.guests.EVERY_S", 0.01)


def same_video(ours: list[Packet], theirs: list[Packet]) -> bool:
    """Whether the frames that both have are the same, and there are many."""
    if not ours or not theirs:
        return False
    first = max(ours[0].pts_90k, theirs[0].pts_90k)
    last = min(ours[-1].pts_90k, theirs[-1].pts_90k)
    mine, others = ([packet for packet in seen if first <= packet.pts_90k <= last] for seen in (ours, theirs))
    return len(mine) >= 16 and mine == others


async def test_viewers_of_two_gateways_see_the_same_frames() -> None:
    async with gateways() as ((first, second), _):
        mine = await first.open("a dog", 5)
        guest = await shown(second, mine)
        assert guest.token_hashes == mine.token_hashes
        ours, theirs = recorded(mine.fanout), recorded(guest.fanout)
        join(mine.fanout)
        await until(lambda: ours, "video")
        join(guest.fanout)
        await until(lambda: theirs, "video at the guest")
        assert theirs[0].keyframe
        await until(lambda: len(theirs) > 20, "more of it")
        await until(lambda: same_video(ours, theirs), "the same frames")
        assert mine.id not in second.session_ids()
        assert second.shown.info(mine.id).viewers == first.info(mine.id).viewers == 2


async def test_a_guests_viewers_are_enough_to_keep_a_session_awake() -> None:
    async with gateways() as ((first, second), _):
        mine = await first.open("a dog", 5)
        guest = await shown(second, mine)
        seen = recorded(guest.fanout)
        subscription = join(guest.fanout)
        await until(lambda: len(seen) > 20, "video")
        await until(lambda: mine.elsewhere == 1, "word of the viewer")
        assert not mine.asleep
        assert first.info(mine.id).viewers == 1
        guest.fanout.leave(subscription)
        await until(lambda: mine.elsewhere == 0 and mine.asleep, "its leave")


async def test_both_gateways_steer_and_each_id_counts_once() -> None:
    heard: list[SessionEvent] = []
    own: list[SessionEvent] = []
    async with gateways() as ((first, second), _):
        mine = await first.open("a dog", 5)
        guest = await shown(second, mine)
        join(guest.fanout)
        second.shown.listen(heard.append, mine.id)
        second.listen(own.append)
        assert second.shown.submit(mine.id, Control("c1", Prompt("a blue dog"))).status == "received"
        assert second.shown.submit(mine.id, Control("c1", Prompt("a blue dog"))).status == "received"
        assert first.submit(mine.id, Control("c2", Prompt("a red dog", when="now"))).status == "received"
        for control in ("c1", "c2"):
            for session in (mine, guest):
                await until(lambda s=session, c=control: _final(s.answers.get(c)), f"receipt of {control}")  # type: ignore[misc]
            assert guest.answers[control] == mine.answers[control]
        frame = mine.answers["c1"].frame
        assert frame is not None
        assert guest.pts_of(frame) == mine.pts_of(frame)
        receipts = [e.id for e in heard if isinstance(e, Receipt)]
        assert sorted(receipts) == ["c1", "c2"]
        assert first.submit(mine.id, Control("c1", Prompt("a blue dog"))) == mine.answers["c1"]
        assert second.shown.submit(mine.id, Control("c1", Pause())).code == "id_reused"
        assert len(mine.recovery) <= 2
        assert not [e for e in own if getattr(e, "session", getattr(e, "id", "")) == mine.id]


def _final(receipt: Receipt | None) -> bool:
    return receipt is not None and receipt.status != "received"


async def test_what_the_owner_refuses_is_told_to_the_guest() -> None:
    async with gateways() as ((first, second), _):
        mine = await first.open("a dog", 5)
        guest = await shown(second, mine)
        mine.contents["c1"], mine.answers["c1"] = b"another", Receipt(mine.id, "c1", "applied", 1, 8)
        second.shown.submit(mine.id, Control("c1", Pause()))
        await until(lambda: _final(guest.answers.get("c1")), "refusal")
        assert guest.answers["c1"].code == "id_reused"
        assert mine.answers["c1"].status == "applied"
        with pytest.raises(InvalidInput):
            second.shown.submit(mine.id, Control("c2", Action("somersault")))


async def test_state_goes_to_both() -> None:
    async with gateways() as ((first, second), _):
        mine = await first.open("a dog", 5)
        guest = await shown(second, mine)
        join(guest.fanout)
        first.submit(mine.id, Control("c1", Pause()))
        await until(lambda: guest.info.paused and mine.info.paused, "pause")
        await until(lambda: guest.stats and mine.stats, "figures")


async def test_when_the_owner_ends_it_the_guests_viewers_are_told() -> None:
    heard: list[SessionEvent] = []
    async with gateways(workers=2) as ((first, second), _):
        mine = await first.open("a dog", 5)
        guest = await shown(second, mine)
        join(guest.fanout)
        second.shown.listen(heard.append)
        await first.close_session(mine.id)
        await until(lambda: guest.closed.is_set(), "end")
        ends = [e for e in heard if isinstance(e, SessionClosed) and e.session == mine.id]
        assert [e.code for e in ends] == ["closed"]
        assert guest.fanout.closed
        assert not len(second.guests)


async def test_viewers_of_a_guest_that_stops_are_told_to_join_again() -> None:
    heard: list[SessionEvent] = []
    async with gateways() as ((first, second), _):
        mine = await first.open("a dog", 5)
        guest = await shown(second, mine)
        join(guest.fanout)
        second.shown.listen(heard.append)
        await second.end_all()
        ends = [e for e in heard if isinstance(e, SessionClosed) and e.session == mine.id]
        assert [e.code for e in ends] == ["moved"]
        assert first.session_ids() == [mine.id]


async def test_a_guest_without_viewers_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gateway.guests.guests.LINGER_S", 0.0)
    async with gateways() as ((first, second), (host,)):
        mine = await first.open("a dog", 5)
        guest = await second.guests.find(mine.id)
        assert guest is not None
        await until(lambda: not len(second.guests), "its end")
        lease = host.mail.leases.get(mine.id)
        assert lease is not None
        await until(lambda: not lease.guests, "leave")


async def test_a_session_that_no_worker_runs_is_not_found() -> None:
    async with gateways(workers=2) as ((_, second), _):
        assert await second.guests.find("nobody") is None
        assert not len(second.guests)


async def test_a_link_that_is_made_later_counts_after_a_renewal() -> None:
    async with gateways() as ((first, second), _):
        mine = await first.open("a dog", 5)
        guest = await shown(second, mine)
        link, token = mine.links.make("viewer", 60.0, first.sessions.now_s())
        now_s = second.sessions.now_s()
        assert guest.accepts(token, now_s) is None
        await renewed(second, mine.id, lambda: guest.accepts(token, now_s) == "viewer")
        mine.links.end(link.id, first.sessions.now_s())
        await renewed(second, mine.id, lambda: guest.accepts(token, now_s) is None)


async def test_when_the_owner_is_killed_its_guest_claims_the_session() -> None:
    """Its viewers stay; what they sent meanwhile is carried out."""
    async with gateways(3) as ((first, second, third), (host,)):
        mine = await first.open("a dog", 5)
        guest, other = await shown(second, mine), await shown(third, mine)
        seen, others = recorded(guest.fanout), recorded(other.fanout)
        join(guest.fanout)
        join(other.fanout)
        await until(lambda: len(seen) > 10 < len(others), "video")
        vanish(first)
        lease = host.mail.leases.get(mine.id)
        assert lease is not None
        await until(lambda: lease.owner is None, "end of the owner")
        second.shown.submit(mine.id, Control("c1", Prompt("a blue dog")))
        third.shown.submit(mine.id, Control("c2", Prompt("a red dog")))
        await until(lambda: lease.owner is not None, "claim")
        await until(
            lambda: (mine.id in second.session_ids()) != (mine.id in third.session_ids()), "a new owner"
        )
        owner = second if mine.id in second.session_ids() else third
        kept = owner.session(mine.id)
        assert kept is (guest if owner is second else other)
        assert kept.token_hashes == mine.token_hashes
        for session in (guest, other):
            await until(lambda s=session: _final(s.answers.get("c1")), "receipt")  # type: ignore[misc]
            await until(lambda s=session: _final(s.answers.get("c2")), "receipt")  # type: ignore[misc]
        assert {guest.answers[c].status for c in ("c1", "c2")} == {"applied"}
        last = seen[-1].pts_90k
        await until(lambda: seen[-1].pts_90k > last + 45_000 < others[-1].pts_90k, "video")
        assert [p.pts_90k for p in seen] == sorted({p.pts_90k for p in seen})
        assert kept.elsewhere == 1
        assert host.mail.leases.get(mine.id) is lease


async def test_when_a_guest_is_killed_the_others_go_on() -> None:
    async with gateways(3) as ((first, second, third), (host,)):
        mine = await first.open("a dog", 5)
        for gate in (second, third):
            join((await shown(gate, mine)).fanout)
        await until(lambda: mine.elsewhere == 2, "two viewers")
        vanish(second)
        await until(lambda: mine.elsewhere == 1, "one viewer")
        lease = host.mail.leases.get(mine.id)
        assert lease is not None
        assert lease.audience().viewers == {"vp8": 1}


async def test_when_the_worker_is_killed_guests_follow_to_the_next_one() -> None:
    async with gateways(2, workers=2) as ((first, second), hosts):
        mine = await first.open("a dog", 5)
        guest = await shown(second, mine)
        ours, theirs = recorded(mine.fanout), recorded(guest.fanout)
        join(mine.fanout)
        join(guest.fanout)
        await until(lambda: len(theirs) > 20, "video")
        before, worker = theirs[-1], mine.worker
        second.shown.submit(mine.id, Control("c1", Prompt("a blue dog")))
        for gateway in hosts[int(worker[1]) - 1].mail.gateways:
            gateway.abort()
        hosts[int(worker[1]) - 1].end()
        await until(lambda: mine.worker != worker, "failover")
        await until(lambda: guest.worker == mine.worker, "the guest's")
        await until(lambda: _final(guest.answers.get("c1")), "receipt")
        assert guest.answers["c1"].status == "applied"
        await until(lambda: theirs[-1].pts_90k > before.pts_90k + 90_000, "video")
        assert [p.pts_90k for p in theirs] == sorted({p.pts_90k for p in theirs})
        assert [p.frame for p in theirs] == sorted(p.frame for p in theirs)
        last = theirs[-1].pts_90k
        await until(lambda: same_video(_after(last, ours), _after(last, theirs)), "the same frames")
        assert guest.buffering is None


async def test_when_the_worker_is_frozen_guests_follow_the_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their pictures stood still for up to 30 s: a gateway waited that long for a worker where it has no
    session of its own."""
    monkeypatch.setattr("server.gateway.care.FAILOVER_S", 1.0)
    monkeypatch.setattr("server.gateway.fleet.worker_health.UNRESPONSIVE_S", 1.0)
    async with AsyncExitStack() as stack:
        hosts = [await stack.enter_async_context(listening()) for _ in range(2)]
        relays = [await stack.enter_async_context(Relay(port)) for _, port in hosts]
        first, second = await stack.enter_async_context(connected([maker(each.port) for each in relays]))
        mine = await first.open("a dog", 5)
        guest = await shown(second, mine)
        ours, theirs = recorded(mine.fanout), recorded(guest.fanout)
        join(mine.fanout)
        join(guest.fanout)
        await until(lambda: len(theirs) > 20, "video")
        worker = mine.worker
        relays[int(worker[1]) - 1].freeze()
        await until(lambda: mine.worker != worker, "failover")
        await until(lambda: guest.worker == mine.worker, "the guest's")
        last = theirs[-1].pts_90k
        await until(lambda: same_video(_after(last, ours), _after(last, theirs)), "the same frames")
        for relay in relays:
            relay.heal()


def _after(pts_90k: int, seen: list[Packet]) -> list[Packet]:
    return [packet for packet in seen if packet.pts_90k > pts_90k]


async def test_a_guest_moves_along_and_sees_each_frame_once() -> None:
    heard: list[SessionEvent] = []
    async with gateways(2, workers=2) as ((first, second), _):
        mine = await first.open("a dog", 5)
        guest = await shown(second, mine)
        second.shown.listen(heard.append, mine.id)
        ours, theirs = recorded(mine.fanout), recorded(guest.fanout)
        join(mine.fanout)
        join(guest.fanout)
        await until(lambda: len(theirs) > 20, "video")
        target = next(w for w in first.fleet if w.name != mine.worker)
        assert await first.parts.migration.move(mine, target)
        await until(lambda: guest.worker == mine.worker == target.name, "move")
        last = theirs[-1].pts_90k
        await until(lambda: theirs[-1].pts_90k > last + 90_000 < ours[-1].pts_90k, "video")
        begun = theirs[0].pts_90k
        assert [p.pts_90k for p in theirs] == [p.pts_90k for p in ours if begun <= p.pts_90k][: len(theirs)]
        assert same_video(ours, theirs)
        assert not [e for e in heard if isinstance(e, SessionClosed)]
        assert {e.buffering for e in heard if isinstance(e, SessionInfo)} == {None}
