"""A guest's viewers get every final receipt, also one that comes while the guest is between two workers."""

from __future__ import annotations

import pytest

from engine.types import Control, Prompt, Receipt
from server.control.base import SessionEvent
from server.gateway.fleet.supervisor import Supervisor
from server.worker.base import Applied, Event
from tests.rigs.server.server_rig import join, until
from tests.server.gateway.guests.gateways import gateways, renewed, shown


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gateway.upkeep.EVERY_S", 0.01)


async def test_a_receipt_that_did_not_reach_the_guest_is_had_from_the_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[SessionEvent] = []
    async with gateways() as ((first, second), _):
        mine = await first.open("a dog", 5)
        guest = await shown(second, mine)
        join(guest.fanout)
        second.shown.listen(heard.append, mine.id)
        hear, missed = second.worker_event, list[Event]()

        def between_two_workers(worker: Supervisor, event: Event) -> None:
            if isinstance(event, Applied | Receipt):
                missed.append(event)
            else:
                hear(worker, event)

        monkeypatch.setattr(second, "worker_event", between_two_workers)
        first.submit(mine.id, Control("c1", Prompt("a cat", when="now")))
        await until(lambda: missed and mine.answers["c1"].status == "applied", "the receipt")
        await renewed(second, mine.id, lambda: "c1" in guest.answers)
        for _ in range(2):  # told once
            await second.guests.renew(mine.id)
        assert guest.answers["c1"] == mine.answers["c1"]
        assert [event for event in heard if isinstance(event, Receipt)] == [mine.answers["c1"]]
