"""Controls of guests stay in order when another gateway takes a session: found by simulation."""

from __future__ import annotations

from engine.types import Control, Pause, Prompt
from server.worker.hosting.leases import SILENT_S
from server.worker.messages.commands import RequestKeyframe, SubmitControl
from server.worker.messages.holding import Claimed, ClaimSession, Submitted, Watched, WatchSession
from tests.rigs.engine.fakes import ManualClock
from tests.rigs.waiting import until
from tests.server.worker.hosting.test_guests import lease_of, owner_and_guests

EARLIER, LATER = Control("c1", Prompt("a blue dog")), Control("c2", Pause())


async def test_a_control_of_a_guest_that_knows_the_last_owner_waits_for_those_before_it() -> None:
    """An earlier one had gone to the last owner and was lost with it; this one took effect first."""
    async with owner_and_guests(2) as (_, owner, (first, second)):
        second.send(WatchSession("s", {"vp8": 1}, 1))
        await second.hears(Watched)
        await owner.worker.close()
        first.send(ClaimSession("s", 2))
        await first.hears(Claimed)
        second.send(SubmitControl("s", LATER, 1))
        second.send(SubmitControl("s", EARLIER, 2), SubmitControl("s", LATER, 2))
        await until(lambda: Submitted("s", LATER) in first.heard, "the later one")
        assert first.of(Submitted) == [Submitted("s", EARLIER), Submitted("s", LATER)]


async def test_a_guest_that_was_silent_is_told_who_holds_the_session_now() -> None:
    clock = ManualClock()
    async with owner_and_guests(2, clock) as (host, _, (first, silent)):
        silent.send(WatchSession("s", {"vp8": 1}, 1))
        await silent.hears(Watched)
        await silent.worker._link._tasks.close()  # its beat
        clock.advance(SILENT_S + 0.1)
        await until(lambda: not lease_of(host).heard_guests, "silence")
        first.send(ClaimSession("s", 2))
        await first.hears(Claimed)
        silent.send(RequestKeyframe("s", "vp8"))
        await until(lambda: any(isinstance(e, Watched) and e.epoch == 2 for e in silent.heard), "word of it")
