"""The figures that the simulated fleet runs on, each with its source, and what may be chosen.

A figure is called measured only if somebody measured it; the others say what they are.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from engine.errors import InvalidInput
from server.config import ServerConfig
from server.gateway.exporting.snapshots import BYTES_PER_S, WORKER_BYTES_PER_S
from server.gateway.fleet.worker_health import UNRESPONSIVE_S
from server.worker.base import BEAT_S

ONCE = "measured once on two busy cores with the built-in model, by a throwaway program"
PRODUCT = "the product's own constant"


@dataclass(frozen=True)
class FleetFigures:
    """Times in seconds, sizes in bytes, rates in bytes per second."""

    state_bytes: int = 1_002_436
    from_snapshot_s: float = 0.0012
    answer_s: float = 0.004
    round_trip_s: float = 0.00034
    first_picture_s: float = 0.126
    worker_start_s: float = 1.7
    packet_cpu_s: float = 40e-6
    viewer_cpu: float = 0.0033
    search_s: float = 1.2e-6
    open_cpu_s: float = 0.001
    restore_cpu_s: float = 0.001
    link_bytes_per_s: float = 1.25e9
    unresponsive_s: float = UNRESPONSIVE_S
    beat_s: float = BEAT_S
    snapshot_every_s: float = ServerConfig.snapshot_every_s
    worker_snapshot_bytes_per_s: float = WORKER_BYTES_PER_S
    snapshot_bytes_per_s: float = BYTES_PER_S


SOURCES = {
    "state_bytes": "measured: README, figures",
    "from_snapshot_s": "measured: README, `bench step`",
    "answer_s": ONCE,
    "round_trip_s": ONCE,
    "first_picture_s": ONCE + "; from the request for a snapshot to the other worker's first packet",
    "worker_start_s": ONCE + "; loading a large model comes on top",
    "packet_cpu_s": ONCE + ", 3200 packets per second",
    "viewer_cpu": "measured: LOG, cores per viewer at 60 viewers and a load of 20; 0.0012 to 0.0026 alone",
    "search_s": "measured: by this benchmark, choosing one, per worker of a gateway",
    "open_cpu_s": "assumed: HTTP and commands",
    "restore_cpu_s": "assumed: sending a snapshot",
    "link_bytes_per_s": "assumed: 10 Gb/s between a gateway and its workers",
    "unresponsive_s": PRODUCT,
    "beat_s": PRODUCT,
    "snapshot_every_s": PRODUCT,
    "worker_snapshot_bytes_per_s": PRODUCT,
    "snapshot_bytes_per_s": PRODUCT,
}

LIMITS = {"gpus": 20_000, "sessions": 2_000_000, "gateways": 20_000, "racks": 20_000, "spares": 20_000}


@dataclass(frozen=True)
class FleetChoice:
    """What is simulated. `layout` says how the workers of a gateway are spread: over as many racks as it has
    workers, or next to each other. Raises InvalidInput."""

    gpus: int = 1000
    sessions: int = 100_000
    gateways: int = 200
    racks: int = 25
    spares: int = 0
    layout: str = "spread"
    seconds: float = 60.0
    noticed_s: float = ServerConfig.hang_limit_s
    call_ms: float = 5.0
    row_ms: float = 0.7
    max_sessions: int = 200
    playing: float = 0.3
    watches_s: float = 120.0
    lives_s: float = 600.0
    tries: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for name, most in LIMITS.items():
            least = 0 if name == "spares" else 1
            if not least <= getattr(self, name) <= most:
                raise InvalidInput(f"--{name} must be {least} to {most}", field=name)
        for name in ("gateways", "racks"):
            if getattr(self, name) > self.gpus:
                raise InvalidInput(f"--{name} must be at most --gpus ({self.gpus})", field=name)
        if not 5 <= self.seconds <= 3600:
            raise InvalidInput("--seconds must be 5 to 3600", field="seconds")
        if not 0 < self.noticed_s <= self.seconds / 2:
            raise InvalidInput(
                f"--noticed must be more than 0 and at most half of --seconds ({self.seconds / 2:g})",
                field="noticed",
            )
        if not 0 < self.playing <= 1:
            raise InvalidInput("--playing must be more than 0 and at most 1", field="playing")

    @property
    def loss_s(self) -> float:
        """When the rack is lost."""
        return self.seconds / 3

    @property
    def away_s(self) -> float:
        """How long nobody watches a session that is left, so that `playing` of them are watched."""
        return self.watches_s * (1 - self.playing) / self.playing


def sourced(figures: FleetFigures) -> list[dict[str, str]]:
    """The rows of the table of figures."""
    return [
        {"figure": f.name, "value": f"{getattr(figures, f.name):g}", "source": SOURCES[f.name]}
        for f in fields(figures)
    ]
