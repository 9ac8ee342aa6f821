"""Renumbers segments, frames and timestamps across workers, since each worker counts from zero.

A browser treats a timestamp that goes back as an error, and a receipt must name a frame that is still to
come. It has no clock of its own.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from engine.types import Receipt, SessionInfo
from server.worker.messages import Packet, SegmentStats

RATE = 90_000
SEGMENT_FIELDS = ("segments", "segment", "from", "screen")  # fields of a control log that count segments


class Numbering:
    """Maps a worker's numbers to those that clients see. Call `interrupted` when another worker takes over
    after a failover, `continued` when one does in a migration."""

    def __init__(self) -> None:
        self._epoch, self._segment, self._frame = 0, 0, 0  # offsets added to the worker's numbers
        self._next = (0, 0, 0)  # the lowest numbers that no client has seen
        self._offset_90k: int | None = 0
        self._last_90k, self._last_s = 0, 0.0
        self._before: Numbering | None = None  # of the previous worker, whose packets may still arrive

    def interrupted(self) -> None:
        self._epoch, self._segment, self._frame = self._next
        self._offset_90k = None

    def continued(self, segment: int, frame: int) -> Numbering:
        """The numbering for a worker that continues with this segment and its first `frame`, both as clients
        see them. Packets of the present worker up to there are still renumbered by `self`."""
        after = Numbering()
        after._epoch, after._segment, after._frame = self._next[0], segment, frame
        after._next, after._offset_90k, after._before = self._next, None, self
        return after

    @property
    def upcoming(self) -> tuple[int, int]:
        """The lowest segment and frame numbers that no client has seen."""
        return self._next[1:]

    def segment(self, segment: int) -> int:
        """The number under which clients know this segment of the worker."""
        return segment + self._segment

    def info(self, info: SessionInfo) -> SessionInfo:
        epoch, segment, frame = (
            info.epoch + self._epoch,
            info.segment + self._segment,
            info.frame + self._frame,
        )
        self._reached(epoch, segment, frame)  # an info names the next segment
        return replace(info, epoch=epoch, segment=segment, frame=frame)

    def stats(self, stats: SegmentStats, frames: int) -> SegmentStats:
        """Renumber the figures of a segment of `frames` frames."""
        epoch, segment = stats.epoch + self._epoch, stats.segment + self._segment
        frame = stats.frame + self._frame
        self._reached(epoch, segment + 1, frame + frames)
        return replace(stats, epoch=epoch, segment=segment, frame=frame)

    def receipt(self, receipt: Receipt) -> Receipt:
        if receipt.segment is None or receipt.frame is None:
            return receipt
        return replace(receipt, segment=receipt.segment + self._segment, frame=receipt.frame + self._frame)

    def packet(self, packet: Packet, now_s: float) -> Packet:
        """Renumber a packet that is sent now. After an interruption, media time has advanced by the time that
        passed meanwhile."""
        if self._offset_90k is None:
            last = self._before or self
            elapsed_90k = max(1, round((now_s - last._last_s) * RATE)) if last._last_s else 0
            self._offset_90k, self._before = last._last_90k + elapsed_90k - packet.pts_90k, None
        self._last_90k, self._last_s = packet.pts_90k + self._offset_90k, now_s
        return replace(
            packet,
            epoch=packet.epoch + self._epoch,
            segment=packet.segment + self._segment,
            frame=packet.frame + self._frame,
            pts_90k=self._last_90k,
        )

    def log(self, data: bytes) -> bytes:
        """The worker's control log (JSON Lines, see docs/protocol.md) in the numbers that clients see. The
        header's field `before` counts the segments that earlier workers made."""
        if not self._segment:
            return data
        header, *lines = (json.loads(row) for row in data.splitlines())
        rows = [{**self._renumbered(header), "before": self._segment}, *map(self._renumbered, lines)]
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()

    def _renumbered(self, row: dict[str, Any]) -> dict[str, Any]:
        return {
            name: value + self._segment if name in SEGMENT_FIELDS else value for name, value in row.items()
        }

    def pts(self, pts_90k: int) -> int | None:
        """The timestamp of an announced frame; None until a packet has been sent after an interruption."""
        return None if self._offset_90k is None else pts_90k + self._offset_90k

    def _reached(self, epoch: int, segment: int, frame: int) -> None:
        most_epoch, most_segment, most_frame = self._next
        self._next = max(most_epoch, epoch + 1), max(most_segment, segment), max(most_frame, frame)
