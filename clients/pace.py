"""What to tell people of a device that is slower than playback, from the messages of docs/protocol.md.

Pure: it knows no connection and no screen. What is missing or no number counts as all well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def stands(session: Mapping[str, Any]) -> bool:
    """Whether the server says why no new picture comes: a pause, or more has to be made first."""
    return session.get("paused") is True or isinstance(session.get("buffering"), Mapping)


def pace(session: Mapping[str, Any], segment: Mapping[str, Any]) -> str:
    """In a few words, from the latest `session` and `segment` messages; empty at full speed."""
    if isinstance(buffering := session.get("buffering"), Mapping):
        left_s = _number(buffering.get("resumes_in_s"), 0.0)
        when = f"goes on in about {math.ceil(left_s)} s" if left_s >= 1 else "goes on any moment"
        return f"buffering, {when}"
    rate = _number(segment.get("rate"), 1.0)
    return f"slow motion, {rate:.2f}×" if 0 < rate < 1 else ""


def _number(value: object, otherwise: float) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9:
        return float(value)
    return otherwise
