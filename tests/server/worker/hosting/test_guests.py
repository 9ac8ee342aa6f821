"""Gateways that show a session which another one holds, over real connections."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable

import pytest

from engine.types import Control, OpenSession, Prompt, Receipt, SessionClosed, SessionInfo, Stall
from server.worker.base import Applied, Event, RestoreSession
from server.worker.hosting.host import Host
from server.worker.hosting.leases import SILENT_S, GuestGateway, Lease, LeaseStage
from server.worker.messages.commands import CloseSession, RequestKeyframe, SetViewers, SubmitControl
from server.worker.messages.events import Packet, SegmentStats, Stalled
from server.worker.messages.holding import (
    Answered,
    Claimed,
    ClaimSession,
    Fenced,
    KeepRecord,
    LeaveSession,
    Moved,
    OtherViewers,
    Submitted,
    Watched,
    WatchSession,
)
from server.worker.remote import RemoteWorker
from tests.rigs.engine.fakes import ManualClock
from tests.rigs.server.port_rig import listening, remote
from tests.rigs.waiting import until
from tests.server.worker.working import Heard


class End:
    """A gateway's end of a connection, and what it has heard."""

    def __init__(self, port: int) -> None:
        self.heard = Heard()
        self.worker: RemoteWorker = remote(port, self.heard.hear)

    def send(self, *orders: object) -> None:
        for order in orders:
            self.worker.send(order)  # type: ignore[arg-type]

    def of(self, *kinds: type) -> list[Event]:
        return [event for event in self.heard if isinstance(event, kinds)]

    async def hears(self, *kinds: type) -> Event:
        await until(lambda: self.of(*kinds), " or ".join(kind.__name__ for kind in kinds))
        return self.of(*kinds)[-1]


@contextlib.asynccontextmanager
async def owner_and_guests(
    number: int = 1, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[tuple[Host, End, list[End]]]:
    """The owner of session `s`, which it doesn't watch, and other gateways."""
    async with listening(clock=clock) as (host, port):
        ends = [End(port) for _ in range(number + 1)]
        for end in ends:
            await end.worker.start()
        ends[0].send(OpenSession("s", "a red cat", 1), KeepRecord("s", b"the record"))
        await ends[0].hears(SessionInfo)
        yield host, ends[0], ends[1:]
        for end in ends:
            await end.worker.close()


def lease_of(host: Host) -> Lease:
    lease = host.mail.leases.get("s")
    assert lease is not None
    return lease


async def test_a_guest_is_sent_the_bytes_that_the_owner_is_sent() -> None:
    async with owner_and_guests(2) as (_, owner, (guest, idle)):
        owner.send(SetViewers("s", {"vp8": 1}, count=1))
        await owner.hears(Packet)
        guest.send(WatchSession("s", {"vp8": 2}, 2))
        watched = await guest.hears(Watched)
        assert isinstance(watched, Watched)
        assert (watched.epoch, watched.info.prompt, watched.record) == (1, "a red cat", b"the record")
        await until(lambda: len(guest.heard.packets()) > 20, "video")
        first = guest.heard.packets()[0]
        assert first.keyframe
        last = guest.heard.packets()[-1]
        await until(lambda: owner.heard.packets()[-1].pts_90k >= last.pts_90k, "the owner's video")
        theirs = [p for p in owner.heard.packets() if first.pts_90k <= p.pts_90k <= last.pts_90k]
        assert guest.heard.packets() == theirs
        assert guest.of(SegmentStats)
        assert not idle.of(Packet, SegmentStats, SessionInfo)


async def test_video_goes_only_where_it_is_watched() -> None:
    async with owner_and_guests(2) as (_, owner, (first, second)):
        first.send(WatchSession("s", {"vp8": 1}, 1))
        second.send(WatchSession("s", {"h264": 1, "vp8": 0}, 1))
        await first.hears(Packet)
        await second.hears(Packet)
        await until(lambda: len(first.heard.packets()) > 10 < len(second.heard.packets()), "video")
        assert {p.codec for p in first.heard.packets()} == {"vp8"}
        assert {p.codec for p in second.heard.packets()} == {"h264"}
        assert not owner.of(Packet)
        assert owner.of(SegmentStats)


async def test_when_the_last_guest_has_left_nothing_is_encoded() -> None:
    async with owner_and_guests() as (host, _, (guest,)):
        guest.send(WatchSession("s", {"vp8": 1}, 1))
        await guest.hears(Packet)
        guest.send(LeaveSession("s"))
        await until(lambda: not lease_of(host).guests, "leave")
        assert lease_of(host).audience() == SetViewers("s", {})
        core = host._core
        assert core is not None
        await until(lambda: not core._playout._streams["s"].viewers, "end of encoding")


async def test_a_guest_that_is_gone_or_silent_is_subtracted() -> None:
    clock = ManualClock()
    async with owner_and_guests(2, clock) as (host, owner, (first, second)):
        owner.send(SetViewers("s", {"vp8": 1}, count=1))
        first.send(WatchSession("s", {"vp8": 2}, 2))
        second.send(WatchSession("s", {"vp8": 4}, 4))
        await until(lambda: lease_of(host).audience().viewers == {"vp8": 7}, "sum")
        await until(lambda: OtherViewers("s", 6) in owner.heard, "word to the owner")
        await until(lambda: OtherViewers("s", 5) in first.heard, "word to a guest")
        await first.worker.close()
        await until(lambda: lease_of(host).audience().viewers == {"vp8": 5}, "what is left")
        await second.worker._link._tasks.close()  # its beat
        clock.advance(SILENT_S + 0.1)
        owner.send(KeepRecord("s", b"here I am"))
        await until(lambda: lease_of(host).audience() == SetViewers("s", {"vp8": 1}, count=1), "the rest")
        await until(lambda: owner.heard[-1] != OtherViewers("s", 4), "word")
        second.send(SubmitControl("nothing", Control("c", Prompt("x"))))
        await until(lambda: lease_of(host).audience().viewers == {"vp8": 5}, "its return")


async def test_a_session_that_is_not_there_is_not_watched() -> None:
    async with owner_and_guests() as (_, _, (guest,)):
        guest.send(WatchSession("t", {"vp8": 1}, 1))
        end = await guest.hears(SessionClosed)
        assert isinstance(end, SessionClosed)
        assert (end.session, end.code) == ("t", "unknown_session")


async def test_gateways_that_come_do_not_disturb_what_is_being_sent() -> None:
    """Another thread that was telling all of them something failed, and sent no heartbeat any more."""
    async with listening() as (host, port):
        before = host.mail.gateways
        end = End(port)
        await end.worker.start()
        assert not before
        assert len(host.mail.gateways) == 1
        await end.worker.close()


async def test_guests_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.worker.hosting.guests.MAX_GUESTS", 1)
    async with owner_and_guests(2) as (_, _, (first, second)):
        first.send(WatchSession("s", {}))
        await first.hears(Watched)
        second.send(WatchSession("s", {}))
        end = await second.hears(SessionClosed)
        assert isinstance(end, SessionClosed)
        assert end.code == "full"
        first.send(WatchSession("s", {"vp8": 1}, 1))
        await first.hears(Packet)


async def test_a_guest_gets_keyframes_and_others_are_fenced() -> None:
    async with owner_and_guests(2) as (_, _, (guest, other)):
        guest.send(WatchSession("s", {"vp8": 1}, 1))
        await until(lambda: len(guest.heard.packets()) > 3, "video")
        keys = sum(p.keyframe for p in guest.heard.packets())
        guest.send(RequestKeyframe("s", "vp8"))
        await until(lambda: sum(p.keyframe for p in guest.heard.packets()) > keys, "another keyframe")
        other.send(RequestKeyframe("s", "vp8"))
        guest.send(CloseSession("s"))
        assert await other.hears(Fenced) == Fenced("s", 1)
        assert await guest.hears(Fenced) == Fenced("s", 1)


async def test_a_guests_controls_go_to_the_owner_and_receipts_to_both() -> None:
    async with owner_and_guests() as (_, owner, (guest,)):
        guest.send(WatchSession("s", {"vp8": 1}, 1))
        control = Control("c1", Prompt("a blue dog"))
        guest.send(SubmitControl("s", control))
        await guest.hears(Watched)
        assert await owner.hears(Submitted) == Submitted("s", control)
        assert not owner.of(Receipt, Applied)
        refused = Receipt("s", "c2", "rejected", code="id_reused", message="no")
        owner.send(SubmitControl("s", control), Answered("s", refused))
        assert await guest.hears(Answered) == Answered("s", refused)
        assert await owner.hears(Receipt, Applied) == await guest.hears(Receipt, Applied)


async def test_what_the_owner_throttles_stays_so() -> None:
    async with owner_and_guests() as (host, owner, (guest,)):
        guest.send(WatchSession("s", {"vp8": 1}, 1))
        await guest.hears(Packet)
        owner.send(SetViewers("s", {}, throttled=True), Stalled("s", None), Moved("s", 3, 2))
        await guest.hears(Moved)
        assert guest.of(Stalled)
        guest.send(WatchSession("s", {"vp8": 2}, 2))
        await until(lambda: lease_of(host).guests and lease_of(host).count == 2, "another viewer")
        assert lease_of(host).audience() == SetViewers("s", {}, throttled=True)


async def test_a_guest_that_joins_during_a_stall_is_told_what_is_left_of_it() -> None:
    clock = ManualClock()
    async with owner_and_guests(clock=clock) as (host, owner, (guest,)):
        owner.send(Stalled("s", Stall(1.0, 0.5, 2.5)))
        await until(lambda: lease_of(host).stall, "stall")
        clock.advance(1.0)
        guest.send(WatchSession("s", {}))
        watched = await guest.hears(Watched)
        assert isinstance(watched, Watched)
        assert watched.info.buffering == Stall(1.0, 0.5, 1.5)
        owner.send(Stalled("s", None), Moved("s", 3, 2))
        await guest.hears(Moved)
        guest.send(WatchSession("s", {}))
        await until(lambda: len(guest.of(Watched)) == 2, "answer")
        assert guest.of(Watched)[-1].info.buffering is None  # type: ignore[union-attr]


async def test_a_guest_may_claim_and_the_others_stay() -> None:
    async with owner_and_guests(2) as (host, owner, (first, second)):
        for guest in (first, second):
            guest.send(WatchSession("s", {"vp8": 1}, 1))
            await guest.hears(Packet)
        await owner.worker.close()
        await until(lambda: lease_of(host).owner is None, "end of the owner")
        first.send(ClaimSession("s", 2), SetViewers("s", {"vp8": 1}, count=1))
        claimed = await first.hears(Claimed)
        assert isinstance(claimed, Claimed)
        assert claimed.record == b"the record"
        await until(lambda: any(isinstance(e, Watched) and e.epoch == 2 for e in second.heard), "word of it")
        assert len(lease_of(host).guests) == 1
        control = Control("c1", Prompt("a blue dog"))
        second.send(SubmitControl("s", control))
        assert await first.hears(Submitted) == Submitted("s", control)
        seen = second.heard.packets()[-1].pts_90k
        await until(lambda: second.heard.packets()[-1].pts_90k > seen + 90_000, "video as before")
        await until(lambda: first.heard.packets()[-1].pts_90k > seen + 90_000, "its own too")


async def test_guests_stay_with_a_session_that_is_restored_where_it_was() -> None:
    async with owner_and_guests() as (_, owner, (guest,)):
        guest.send(WatchSession("s", {"vp8": 1}, 1))
        await guest.hears(Packet)
        owner.send(RestoreSession(OpenSession("s", "a blue dog", 2), (SetViewers("s", {}),), epoch=2))
        await until(
            lambda: any(isinstance(e, Watched) and e.epoch == 2 and e.info.seed == 2 for e in guest.heard),
            "word of the new one",
        )
        guest.heard.clear()
        await guest.hears(Packet)
        assert not guest.of(SessionClosed)
        owner.send(CloseSession("s"))
        await guest.hears(SessionClosed)


async def test_a_guest_that_asks_before_it_is_open_is_told_once_it_is() -> None:
    async with owner_and_guests() as (_, owner, (guest,)):
        owner.send(OpenSession("t", "a red cat", 1))
        await until(lambda: _tries(guest, "t"), "session")
        assert not [e for e in guest.of(Watched) if isinstance(e, Watched) and e.info is None]


def _tries(guest: End, session: str) -> bool:
    guest.send(WatchSession(session, {}))
    return any(isinstance(e, Watched) and e.session == session for e in guest.heard)


def test_who_watches_is_summed() -> None:
    lease = Lease("s", "a", 1, 0.0, viewers=SetViewers("s", {"vp8": 1}, count=1))
    lease.guests = {
        "b": GuestGateway({"vp8": 2, "h264": 1}, 2),
        "c": GuestGateway({"vp8": 9}, 9, silent=True),
    }
    assert lease.audience() == SetViewers("s", {"vp8": 3, "h264": 1}, count=3)
    assert lease.watchers("vp8") == ["a", "b"]
    assert lease.watchers("h264") == ["b"]
    lease.stage = LeaseStage.SILENT
    assert lease.audience() == SetViewers("s", {"vp8": 2, "h264": 1}, count=2)
    assert lease.watchers("vp8") == ["b"]
    lease.stage = LeaseStage.STOPPED
    assert lease.audience() == SetViewers("s", {}, throttled=True)
