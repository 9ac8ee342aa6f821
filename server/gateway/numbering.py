"""A session's numbers go on although each worker that plays it counts from zero: epoch, segment, frame, time.

A browser takes a timestamp that goes back for a fault, and a receipt must name a frame that is still to come.
It knows the worker's events and what their numbers mean, and no clocks of its own.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from engine.types import Receipt, SessionInfo
from server.worker.messages import Packet, SegmentStats

RATE = 90_000
PLACES = ("segments", "segment", "from", "screen")  # what a log of controls counts in segments


class Continuity:
    """From the worker's numbers to those that clients know. `interrupted`: from now on another worker
    counts."""

    def __init__(self) -> None:
        self._epoch, self._segment, self._frame = 0, 0, 0  # what is added
        self._next = (0, 0, 0)  # the first numbers that were never told
        self._offset_90k: int | None = 0
        self._last_90k, self._last_s = 0, 0.0

    def interrupted(self) -> None:
        self._epoch, self._segment, self._frame = self._next
        self._offset_90k = None

    def info(self, info: SessionInfo) -> SessionInfo:
        epoch, segment, frame = (
            info.epoch + self._epoch,
            info.segment + self._segment,
            info.frame + self._frame,
        )
        self._reached(epoch, segment, frame)  # it names the segment that comes next
        return replace(info, epoch=epoch, segment=segment, frame=frame)

    def stats(self, stats: SegmentStats, frames: int) -> SegmentStats:
        """Of a segment with so many frames."""
        epoch, segment = stats.epoch + self._epoch, stats.segment + self._segment
        frame = stats.frame + self._frame
        self._reached(epoch, segment + 1, frame + frames)
        return replace(stats, epoch=epoch, segment=segment, frame=frame)

    def receipt(self, receipt: Receipt) -> Receipt:
        if receipt.segment is None or receipt.frame is None:
            return receipt
        return replace(receipt, segment=receipt.segment + self._segment, frame=receipt.frame + self._frame)

    def packet(self, packet: Packet, now_s: float) -> Packet:
        """One that leaves now. After an interruption media time continues where the wall clock is."""
        if self._offset_90k is None:
            gone_90k = max(1, round((now_s - self._last_s) * RATE)) if self._last_s else 0
            self._offset_90k = self._last_90k + gone_90k - packet.pts_90k
        self._last_90k, self._last_s = packet.pts_90k + self._offset_90k, now_s
        return replace(
            packet,
            epoch=packet.epoch + self._epoch,
            segment=packet.segment + self._segment,
            frame=packet.frame + self._frame,
            pts_90k=self._last_90k,
        )

    def log(self, data: bytes) -> bytes:
        """The worker's log of controls (docs/protocol.md tells its form), in the numbers that clients know.
        That others made segments before it began is told by `before`."""
        if not self._segment:
            return data
        header, *lines = (json.loads(row) for row in data.splitlines())
        rows = [{**self._placed(header), "before": self._segment}, *map(self._placed, lines)]
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()

    def _placed(self, row: dict[str, Any]) -> dict[str, Any]:
        return {name: value + self._segment if name in PLACES else value for name, value in row.items()}

    def pts(self, pts_90k: int) -> int | None:
        """Of a frame that is announced; None while nothing has left since the interruption."""
        return None if self._offset_90k is None else pts_90k + self._offset_90k

    def _reached(self, epoch: int, segment: int, frame: int) -> None:
        most_epoch, most_segment, most_frame = self._next
        self._next = max(most_epoch, epoch + 1), max(most_segment, segment), max(most_frame, frame)
