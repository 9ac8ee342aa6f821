"""A viewer that notes when frames, segments and receipts arrive, and decodes nothing."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from clients.adapter.receiver import DECODE_NOT, EncodedFrame
from clients.target import Target
from clients.whep import WhepViewer

WRAP = 1 << 32


@dataclass
class Seen:
    """What one reader saw. Times from time.perf_counter(); media times in 1/90000 s, as the server counts."""

    frames: list[tuple[float, int | None]] = field(default_factory=list)  # arrival, media time if known
    segments: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    joined_s: list[float] = field(default_factory=list)  # each time the server told its clock
    lost_s: list[float] = field(default_factory=list)  # each time the reader gave up a connection
    answers: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))  # final ones

    def longest_gap_s(self, since_s: float, until_s: float) -> float:
        """The longest time without a frame."""
        times = [since_s, *(at for at, _ in self.frames if since_s < at < until_s), until_s]
        return max(b - a for a, b in pairwise(times))

    def backwards(self, since_s: float, until_s: float) -> int:
        """How many frames had a media time that was not later than that of the frame before them."""
        known = [pts for at, pts in self.frames if pts is not None and since_s <= at < until_s]
        return sum((b - a - 1) % WRAP >= WRAP // 2 for a, b in pairwise(known))

    def repeated(self, since_s: float, until_s: float) -> int:
        """How many frames were shown again: those of segments whose numbers came before."""
        numbers = [m["frame"] for at, m in self.segments if since_s <= at < until_s]
        return sum(max(0, a + 1 - b) for a, b in pairwise(numbers))

    def epochs(self, since_s: float, until_s: float) -> set[int]:
        return {m["epoch"] for at, m in self.segments if since_s <= at < until_s}


class Reader(WhepViewer):
    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.seen = Seen()
        self.on_message = self._note

    def _encoded(self, encoded: EncodedFrame) -> object:
        super()._encoded(encoded)
        now_s = time.perf_counter()
        if self.first_picture_s is None:
            self.first_picture_s = now_s
            self._first.set()
        rtp = self._timeline.latest
        offset = self.rtp_offset
        self.seen.frames.append((now_s, None if offset is None else (rtp - offset) % WRAP))
        return DECODE_NOT

    async def _join_again(self) -> None:
        self.seen.lost_s.append(time.perf_counter())
        await super()._join_again()

    def _note(self, message: dict[str, Any]) -> None:
        now_s, seen = time.perf_counter(), self.seen
        match message.get("type"):
            case "segment":
                seen.segments.append((now_s, message))
            case "clock":
                seen.joined_s.append(now_s)
            case "receipt" if message.get("status") in ("applied", "rejected"):
                seen.answers[str(message.get("id"))].append(message)
