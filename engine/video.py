"""Writing frames into an MP4 file (H.264, yuv420p). It knows no models and no sessions."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from PIL import Image

from engine.errors import InvalidInput, Unavailable
from engine.types import ByteArray

OPTIONS = {"crf": "18", "preset": "veryfast"}
# Half a second of video at a time, on the disk at once; an ordinary file with one index after `close`. So a
# process that is killed, or a full disk, costs the last fragment. FFmpeg crashes when it finishes a file of
# this kind without packets, so such a file is left as it is.
FRAGMENTS = {"movflags": "hybrid_fragmented", "frag_duration": "500000", "flush_packets": "1"}


class Mp4Writer:
    """A context manager; whatever ends it, the file is playable. Without frames there is none.

    Raises InvalidInput where the file cannot be made, Unavailable where it cannot be written on."""

    def __init__(
        self, path: Path, *, width: int, height: int, fps: int, scale: int = 1, smooth: bool = False
    ):
        self.path = path
        self.size = (width * scale, height * scale)
        self.frames = 0
        self._scale, self._smooth = scale, smooth
        if path.suffix.lower() != ".mp4":
            raise InvalidInput(f"out: {path} must end in .mp4", field="out")
        self._packets = 0
        self._whole_bytes = 0  # of the file, up to the last complete fragment
        try:
            _check_writable(path)
            self._container = av.open(str(path), "w", format="mp4", options=FRAGMENTS)
            self._stream = self._container.add_stream("libx264", rate=fps, options=dict(OPTIONS))
            self._stream.width, self._stream.height = self.size
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.open()
        except (OSError, av.FFmpegError) as error:
            raise InvalidInput(f"out: cannot write {path}: {error.strerror or error}", field="out") from None

    def __enter__(self) -> Mp4Writer:
        return self

    def add(self, frame: ByteArray) -> None:
        """One (H, W, 3) RGB picture."""
        if self._smooth:
            big = np.asarray(Image.fromarray(frame).resize(self.size, Image.Resampling.LANCZOS))
        else:
            big = frame.repeat(self._scale, 0).repeat(self._scale, 1)
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(big), format="rgb24")
        picture.pts = self.frames
        self.frames += 1
        self._write(picture)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.frames and not isinstance(error, Unavailable):
                self._write(None)
        finally:
            try:
                if self._packets:
                    self._container.close()
            except (OSError, av.FFmpegError) as failed:
                self._cut()
                if error is None:
                    raise Unavailable(
                        f"out: cannot finish {self.path}: {failed.strerror or failed}"
                    ) from None

    def _write(self, picture: av.VideoFrame | None) -> None:
        try:
            packets = self._stream.encode(picture)
            self._container.mux(packets)
        except (OSError, av.FFmpegError) as error:
            raise Unavailable(
                f"out: cannot write {self.path}: {error.strerror or error}", field="out"
            ) from None
        self._packets += len(packets)
        if self.path.is_file():
            self._whole_bytes = self.path.stat().st_size

    def _cut(self) -> None:
        """Drop the fragment that a full disk has cut short; players would stumble over it."""
        with contextlib.suppress(OSError):
            os.truncate(self.path, self._whole_bytes)


def _check_writable(path: Path) -> None:
    """An existing file keeps its content. Raises OSError."""
    existed = path.exists()
    with path.open("ab"):
        pass
    if not existed:
        path.unlink()
