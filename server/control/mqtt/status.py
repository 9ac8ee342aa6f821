"""What the bridge tells about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["connecting", "connected", "degraded", "closed"]


@dataclass(frozen=True)
class BridgeStatus:
    """For /readyz, /metrics and logs. `degraded`: the broker is away, everything but MQTT works."""

    state: State
    broker: str
    detail: str
    connects_total: int
    received_total: int
    rejected_total: int
    dropped_total: int
