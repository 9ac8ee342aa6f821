"""The status of the MQTT bridge."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Literal, Protocol

log = logging.getLogger(__name__)

State = Literal["connecting", "connected", "degraded", "closed"]
WATCH_EVERY_S = 1.0


@dataclass(frozen=True)
class BridgeStatus:
    """For /readyz, /metrics and logs. `degraded`: the broker is unreachable; everything but MQTT works."""

    state: State
    broker: str
    detail: str
    connects_total: int
    received_total: int
    rejected_total: int
    dropped_total: int


class Dropping(Protocol):
    @property
    def incoming_dropped_total(self) -> int: ...


class IncomingDrops:
    """Counts commands that arrived faster than they could be read, over all connections."""

    total = 0

    async def watch(self, client: Dropping) -> None:
        """Count those of this connection, and log them at most once a second."""
        base = self.total
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            total = base + client.incoming_dropped_total
            if total > self.total:
                log.warning("MQTT: %d commands dropped, too many at once", total - self.total)
                self.total = total
