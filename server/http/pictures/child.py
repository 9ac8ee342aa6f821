"""What runs in the process that decodes. It imports nothing of the server, so that it starts soon."""

from __future__ import annotations

import contextlib
import os
import resource

from engine.clips import CLIPS_OF_STRANGERS, FrameFormat, read_clip
from engine.types import ByteArray

NICENESS = 5  # the video has priority


def limit(memory_bytes: int) -> None:
    """Limit memory, and lower the scheduling priority."""
    with contextlib.suppress(OSError, ValueError):  # without /proc, only the time limits apply
        with open("/proc/self/statm", encoding="utf-8") as file:
            used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + memory_bytes, used + memory_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(NICENESS)


def decode_clip(data: bytes, width: int, height: int, fps: int, least: int, most: int) -> ByteArray:
    """(1 + T, 3, height, width) uint8."""
    screen = FrameFormat(width, height, fps)
    return read_clip(data, screen, least=least, most=most, limits=CLIPS_OF_STRANGERS)
