"""Workers that are started, observed and closed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from engine.config import RuntimeConfig
from server.config import WorkerConfig
from server.worker.base import Alive, Event, OnEvent, Worker
from server.worker.messages.events import Packet
from server.worker.process import ProcessWorker
from server.worker.thread import InProcessWorker
from tests.rigs.server.fake_device import MAX_LOAD

Make = Callable[[WorkerConfig, OnEvent], Worker]
BOTH = pytest.mark.parametrize("make", [InProcessWorker, ProcessWorker])

FAKE = WorkerConfig(backend="fake", runtime=RuntimeConfig(max_sessions=2, max_load=MAX_LOAD))


class Heard(list[Event]):
    """The events without heartbeats."""

    def hear(self, event: Event) -> None:
        if not isinstance(event, Alive):
            self.append(event)

    def packets(self) -> list[Packet]:
        return [e for e in self if isinstance(e, Packet)]


@asynccontextmanager
async def working(make: Make, config: WorkerConfig = FAKE) -> AsyncIterator[tuple[Worker, Heard]]:
    heard = Heard()
    worker = make(config, heard.hear)
    ready = await worker.start()
    assert (ready.model, ready.width, ready.height) == ("fake", 160, 96)
    assert ready.segment_ms > 0
    try:
        yield worker, heard
    finally:
        await worker.close()
        await worker.close()
