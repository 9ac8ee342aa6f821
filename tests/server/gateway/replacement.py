"""A gateway whose worker is replaced."""

from __future__ import annotations

from server.gateway.gateway import Gateway
from server.worker.base import Order
from server.worker.messages.commands import ExportSession
from tests.rigs.server.server_rig import (
    FakeWorker,
    until,
)


def told(worker: FakeWorker, session: str = "main") -> list[Order]:
    """The commands about a session that a worker received, without requests for snapshots."""
    return [
        c
        for c in worker.commands
        if getattr(c, "session", None) == session and not isinstance(c, ExportSession)
    ]


async def replaced(gate: Gateway, workers: list[FakeWorker], number: int = 2) -> FakeWorker:
    await until(lambda: len(workers) == number and gate.ready, "replacement")
    return workers[-1]
