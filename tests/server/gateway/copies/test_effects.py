"""Each control takes effect once, in order, also when its session moves on: found by simulation
(tests/server/simulation)."""

from __future__ import annotations

import asyncio

from engine.types import Control, OpenSession, Prompt
from server.gateway.gateway import Gateway
from server.gateway.session import GatewaySession
from server.worker.messages.commands import SubmitControl
from server.worker.messages.holding import Claimed, Orphaned, Watched
from tests.rigs.server.server_rig import FakeWorker, gateway, opened, until
from tests.server.gateway.replacement import told

INFO = opened(OpenSession("s", "a dog", 5))


def submitted(worker: FakeWorker) -> list[str]:
    return [order.control.id for order in told(worker, "s") if isinstance(order, SubmitControl)]


async def as_guest(gate: Gateway, worker: FakeWorker) -> GatewaySession:
    """This gateway shows a session that the worker runs for another one."""
    worker.outlives_gateway = True
    finding = asyncio.create_task(gate.guests.find("s"))
    await until(lambda: gate.guests.of("s"), "search")
    worker.tell(Watched("s", 1, INFO, b""))
    found = await finding
    assert found is not None
    return found


async def test_what_a_guest_sends_while_nobody_holds_a_session_stays_in_order() -> None:
    """The worker had no owner to pass the first one on to. It carried the second one out for the claim that
    it had just granted, and then the first one, which was sent again."""
    async with gateway() as (gate, (worker,), _):
        await as_guest(gate, worker)
        gate.shown.submit("s", Control("c1", Prompt("a cat")))
        worker.tell(Orphaned("s", 1))
        gate.shown.submit("s", Control("c2", Prompt("a fox")))
        assert submitted(worker) == ["c1", "c1", "c2"]
        worker.tell(Claimed("s", 2, INFO, b""))
