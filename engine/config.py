"""Settings of the runtime: a frozen dataclass, checked when it is created. Reads no files or environment."""

from __future__ import annotations

import math
from dataclasses import dataclass

from engine.errors import InvalidInput

OPTIONS = ("max_sessions", "max_load")  # fields that are also options of commands


@dataclass(frozen=True)
class RuntimeConfig:
    """Raises InvalidInput for a value out of range; the message names the field."""

    max_sessions: int = 64  # even if the device could serve more
    max_load: float = 0.85  # share of the device's time that sessions may use
    idle_share: float = 0.25  # share of a place that is reserved for each paused or unwatched session
    max_batch: int = 8  # sessions that share one call of the backend
    inbox: int = 64  # controls of one session that wait for a segment boundary
    remembered_ids: int = 256  # control ids that are answered only once
    lead_margin: float = 1.25  # lead over playout, in measured segment times
    lead_min_s: float = 0.05
    lead_max_s: float = 2.0
    late_margin_s: float = 0.03  # a late segment is shown this long after it is ready
    least_fps: float = 6.0  # slow motion shows no fewer frames per second; below it the eye sees no motion
    stall_s: float = 3.0  # if slow motion would be slower, the picture stalls at least this long to refill
    idle_grace_s: float = 10.0  # an unwatched session keeps generating this long
    context_noise: float | None = None  # noise level of the history; None: the model's own

    def __post_init__(self) -> None:
        for name in ("max_sessions", "max_batch", "inbox", "remembered_ids"):
            whole = isinstance(getattr(self, name), int) and getattr(self, name) >= 1
            _require(whole, name, "a whole number of at least 1")
        for name in (
            "idle_share",
            "lead_margin",
            "lead_min_s",
            "lead_max_s",
            "late_margin_s",
            "least_fps",
            "stall_s",
            "idle_grace_s",
        ):
            _require(_number(getattr(self, name)), name, "a number of at least 0")
        _require(_number(self.max_load) and self.max_load > 0, "max_load", "a number above 0")
        _require(self.lead_max_s >= self.lead_min_s, "lead_max_s", "at least lead_min_s")
        noise = self.context_noise
        _require(
            noise is None or (_number(noise) and noise <= 1), "context_noise", "a number between 0 and 1"
        )


def _number(value: object) -> bool:
    """Whether this is a finite number, 0 or above."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _require(ok: bool, name: str, rule: str) -> None:
    if not ok:
        shown = f"--{name.replace('_', '-')}" if name in OPTIONS else f"runtime config: {name}"
        raise InvalidInput(f"{shown} must be {rule}", field=name)
