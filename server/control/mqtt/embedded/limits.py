"""What the built-in broker keeps for clients, and how long it waits for them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BrokerLimits:
    retained: int = 1024  # messages of all clients together; what comes later isn't kept
    retained_bytes: int = 16 * 2**20
    waiting: int = 1000  # messages for a client that is away
    away: int = (
        64  # clients with a persistent session that are away; beyond it the first to leave is forgotten
    )
    write_s: float = 10.0  # until a client that does not read is dropped


LIMITS = BrokerLimits()
