"""Writes frames to an MP4 file (H.264, yuv420p)."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import av
import numpy as np
from PIL import Image

from engine.errors import InvalidInput, Unavailable
from engine.types import ByteArray
from engine.videofile.fragmented import FragmentedFile
from engine.videofile.writable import check_writable

OPTIONS = {"crf": "18", "preset": "veryfast"}


class Mp4Writer:
    """A context manager. Whatever ends it, the file is playable; without frames it is not written.

    Frames are enlarged `scale` times, interpolated if `smooth`. The constructor raises InvalidInput if the
    file cannot be created; `add` and the end raise Unavailable if it cannot be written."""

    def __init__(
        self, path: Path, *, width: int, height: int, fps: int, scale: int = 1, smooth: bool = False
    ):
        self.path = path
        self.size = (width * scale, height * scale)
        self.frames = 0
        self._scale, self._smooth = scale, smooth
        if path.suffix.lower() != ".mp4":
            raise InvalidInput(f"--out: {path} must end in .mp4", field="out")
        try:
            check_writable(path)
            self._file = FragmentedFile(path)
            self._stream = self._file.container.add_stream("libx264", rate=fps, options=dict(OPTIONS))
            self._stream.width, self._stream.height = self.size
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.open()
        except (OSError, av.FFmpegError) as error:
            raise InvalidInput(
                f"--out: cannot write {path}: {error.strerror or error}", field="out"
            ) from None

    def __enter__(self) -> Mp4Writer:
        return self

    def add(self, frame: ByteArray) -> None:
        """Add one (H, W, 3) uint8 RGB picture. Raises Unavailable."""
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
                self._file.close()
            except (OSError, av.FFmpegError) as failed:
                if error is None:
                    raise Unavailable(
                        f"--out: cannot finish {self.path}: {failed.strerror or failed}"
                    ) from None

    def _write(self, picture: av.VideoFrame | None) -> None:
        try:
            self._file.mux(self._stream.encode(picture))
        except (OSError, av.FFmpegError) as error:
            raise Unavailable(
                f"--out: cannot write {self.path}: {error.strerror or error}", field="out"
            ) from None
