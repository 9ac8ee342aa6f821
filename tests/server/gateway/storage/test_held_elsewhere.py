"""Saved sessions of which workers say that they need not be resumed: found by simulation."""

from __future__ import annotations

from engine.types import SessionClosed
from server.worker.epochs import CLOSED
from server.worker.messages.holding import Fenced
from tests.rigs.server.server_rig import gateway


async def test_what_another_gateway_holds_by_now_is_not_resumed() -> None:
    """It was resumed beside the other one, from before what its viewers had seen."""
    async with gateway() as (gate, (worker,), _):
        gate.sessions.waiting = {"s", "t"}
        worker.tell(Fenced("s", 2))
        assert gate.sessions.waiting == {"t"}


async def test_what_a_worker_knows_to_be_closed_is_deleted_instead_of_resumed() -> None:
    """Its client had closed it, and its gateway was killed before it was deleted in the store."""
    async with gateway() as (gate, (worker,), _):
        heard: list[object] = []
        gate.sessions.waiting = {"s"}
        gate.sessions.listen(heard.append)  # as the saver does, which deletes what has ended
        worker.tell(Fenced("s", CLOSED))
        assert [(e.session, e.code) for e in heard if isinstance(e, SessionClosed)] == [("s", "closed")]
        assert gate.sessions.waiting == set()
