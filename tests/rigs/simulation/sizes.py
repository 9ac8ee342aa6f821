"""How much a simulated cluster takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """`places` of each worker, of which it serves `capacity` in real time; what a client may have and use,
    and what a segment costs it."""

    places: int = 5
    capacity: int = 5
    client_sessions: int = 16
    client_device_s: float = 0.0
    segment_ms: float = 5.0


TIGHT = Limits(places=3, capacity=2, client_sessions=3, client_device_s=1.0, segment_ms=60.0)
