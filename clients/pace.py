"""Describes a device that is slower than playback, from the messages of docs/protocol.md.

Pure: knows no connection and no screen. Fields that are missing or not numbers count as full speed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from clients.text import number


def stalled(session: Mapping[str, Any]) -> bool:
    """Whether the server has said why there is no new picture: a pause, or a stall (`buffering`)."""
    return session.get("paused") is True or isinstance(session.get("buffering"), Mapping)


def pace(session: Mapping[str, Any], segment: Mapping[str, Any]) -> str:
    """A short text from the latest `session` and `segment` messages; empty at full speed."""
    if isinstance(buffering := session.get("buffering"), Mapping):
        left_s = number(buffering.get("resumes_in_s"), 0.0)
        when = f"resumes in about {math.ceil(left_s)} s" if left_s >= 1 else "resumes any moment"
        return f"buffering, {when}"
    rate = number(segment.get("rate"), 1.0)
    return f"slow motion, {rate:.2f}×" if 0 < rate < 1 else ""
