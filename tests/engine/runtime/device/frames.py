"""Frames of segments, to be compared."""

from __future__ import annotations

from engine.types import (
    SegmentReady,
)


def frames(segments: list[SegmentReady]) -> list[bytes]:
    return [segment.frames.tobytes() for segment in segments]
