"""A video file that stays playable, whatever ends the writing. It knows PyAV and no other package of this
repository."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av

# Half a second of video per fragment; an ordinary file with a single index after `close`.
FRAGMENTS = {"movflags": "hybrid_fragmented", "frag_duration": "500000"}
FRAGMENTED = (".mp4", ".mov")


class FragmentedFile:
    """An MP4, MOV, Matroska or WebM file, chosen by the suffix of `path`. Packets are written to the disk at
    once, so a killed process or a full disk costs the last fragment only.

    Add streams to `container`. The constructor, `mux` and `close` raise OSError and av.FFmpegError."""

    def __init__(self, path: Path) -> None:
        options = FRAGMENTS if path.suffix.lower() in FRAGMENTED else {}
        self.path = path
        self.container = av.open(str(path), "w", options={"flush_packets": "1", **options})
        self._packets = 0
        self._complete_bytes = 0  # size of the file up to its last complete fragment
        self._closed = False

    def mux(self, packets: Sequence[Any]) -> None:
        """Write encoded packets, in order."""
        self.container.mux(packets)
        self._packets += len(packets)
        if self.path.is_file():
            self._complete_bytes = self.path.stat().st_size

    def close(self) -> None:
        """Finish the file. If that fails, an incomplete fragment at its end is removed, since players stumble
        over it. Idempotent."""
        if (
            self._closed or not self._packets
        ):  # FFmpeg crashes when it finishes a fragmented file without packets
            return
        self._closed = True
        try:
            self.container.close()
        except (OSError, av.FFmpegError):
            with contextlib.suppress(OSError):
                os.truncate(self.path, self._complete_bytes)
            raise
