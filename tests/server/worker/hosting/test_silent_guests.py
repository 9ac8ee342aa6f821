"""A guest of which nothing is heard, though its connection stays."""

from __future__ import annotations

from engine.types import Control, Prompt, Receipt
from server.worker.base import Applied
from server.worker.hosting.leases import SILENT_S
from server.worker.messages.commands import SubmitControl
from server.worker.messages.holding import Answered, KeepRecord, Watched, WatchSession
from tests.rigs.engine.fakes import ManualClock
from tests.rigs.waiting import until
from tests.server.worker.hosting.test_guests import lease_of, owner_and_guests


async def test_receipts_reach_a_guest_that_is_silent() -> None:
    """One that had been suspended sent a control at once, and never heard what became of it."""
    clock = ManualClock()
    async with owner_and_guests(1, clock) as (host, owner, (guest,)):
        guest.send(WatchSession("s", {"vp8": 1}, 1))
        await guest.hears(Watched)
        await guest.worker._link._tasks.close()  # its beat
        clock.advance(SILENT_S + 0.1)
        owner.send(KeepRecord("s", b"here I am"))
        await until(lambda: not lease_of(host).heard_guests, "silence")
        refused = Receipt("s", "c2", "rejected", code="id_reused", message="no")
        owner.send(Answered("s", refused), SubmitControl("s", Control("c1", Prompt("a blue dog"))))
        assert await guest.hears(Answered) == Answered("s", refused)
        assert await guest.hears(Receipt, Applied)
