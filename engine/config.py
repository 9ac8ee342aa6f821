"""Settings of the runtime: plain frozen dataclasses, checked when they are made. No files, no environment."""

from __future__ import annotations

import math
from dataclasses import dataclass

from engine.errors import InvalidInput

MAX_PROMPT_BYTES = 2048  # UTF-8
MAX_SEED = 2**32 - 1


@dataclass(frozen=True)
class RuntimeConfig:
    """Raises InvalidInput where a value is out of range; the message names the field."""

    max_sessions: int = 64  # however many the device could serve
    max_load: float = 0.85  # share of the device's time that may be promised to sessions
    idle_share: float = 0.25  # of a place, kept for a session that is paused or unwatched and may come back
    max_batch: int = 8  # sessions that share one call of the backend
    inbox: int = 64  # controls of one session that wait for a segment boundary
    remembered_ids: int = 256  # ids of controls that are answered once
    lead_margin: float = 1.25  # lead over playout, in measured segment times
    lead_min_s: float = 0.05
    lead_max_s: float = 2.0
    late_margin_s: float = 0.03  # a late segment is shown this long after it is ready
    least_fps: float = 6.0  # slow motion shows no fewer frames a second: below it, pictures and no motion
    hold_s: float = 3.0  # where it would have to, the picture stands for so long at least, to collect
    idle_grace_s: float = 10.0  # an unwatched session goes on for so long
    context_noise: float | None = None  # noise level of the history; None: as the model wants it

    def __post_init__(self) -> None:
        for name in ("max_sessions", "max_batch", "inbox", "remembered_ids"):
            _require(
                isinstance(getattr(self, name), int) and getattr(self, name) >= 1,
                name,
                "an integer from 1 up",
            )
        for name in (
            "max_load",
            "idle_share",
            "lead_margin",
            "lead_min_s",
            "lead_max_s",
            "late_margin_s",
            "least_fps",
            "hold_s",
            "idle_grace_s",
        ):
            _require(_number(getattr(self, name)), name, "a number from 0 up")
        _require(self.lead_max_s >= self.lead_min_s, "lead_max_s", "at least lead_min_s")
        noise = self.context_noise
        _require(
            noise is None or (_number(noise) and noise <= 1), "context_noise", "a number between 0 and 1"
        )


def _number(value: object) -> bool:
    """A finite number, not negative."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _require(ok: bool, name: str, rule: str) -> None:
    if not ok:
        raise InvalidInput(f"runtime config: {name} must be {rule}", field=name)
