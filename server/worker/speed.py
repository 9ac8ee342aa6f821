"""Measures how long an encoder takes per frame on this machine, to decide which codecs work in real time.

It does so when asked, in a thread of its own, and once for each codec. The test picture is moving noise,
which is the worst case for an encoder.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable

import av
import numpy as np

from server.config import MediaConfig
from server.worker.contexts import PictureFormat
from server.worker.encoder import ToYuv, VideoEncoder
from server.worker.messages.events import CodecMeasured

FRAMES = 24


def frame_s(codec: str, picture: PictureFormat, frames: int = FRAMES, *, hardware: bool = True) -> float:
    """The median time to encode a frame in seconds. It is wall-clock time, since some encoders have threads
    of their own. Raises av.FFmpegError or ValueError if this codec cannot be encoded at all."""
    width, height, fps, _ = picture
    noise = np.random.default_rng(1).integers(0, 255, (height, width + frames, 3), np.uint8)
    to_yuv, encoder = ToYuv(1), VideoEncoder(codec, *picture, hardware=hardware)
    took_s = []
    for i in range(frames):
        frame = to_yuv(np.ascontiguousarray(noise[:, i : i + width]))
        started_s = time.perf_counter()
        encoder.encode(frame, i * 90_000 // fps, keyframe=False)
        took_s.append(time.perf_counter() - started_s)
    encoder.close()
    return statistics.median(took_s)


def share(codec: str, picture: PictureFormat, *, hardware: bool = True) -> float:
    """The share of one core that one rung of one session takes. Raises the errors of `frame_s`."""
    return frame_s(codec, picture, hardware=hardware) * picture.fps


class EncoderSpeed:
    """Of the encoders of the worker whose model generates pictures of this size. `emit` gets the answers."""

    def __init__(
        self, media: MediaConfig, width: int, height: int, fps: int, emit: Callable[[CodecMeasured], None]
    ) -> None:
        scale, top = media.scale(width, height), media.ladder(width, height, fps)[0]
        self._picture = PictureFormat(width * scale, height * scale, fps, top.bitrate_bps)
        self._media, self._emit = media, emit
        self._lock = threading.Lock()
        self._known: dict[str, CodecMeasured | None] = {}  # None: it is being measured

    def measure(self, codec: str) -> None:
        """Answer with CodecMeasured, at once or later."""
        with self._lock:
            known, asked = self._known.get(codec), codec in self._known
            self._known.setdefault(codec, None)
        if known is not None:
            self._emit(known)
        elif not asked:
            threading.Thread(target=self._run, args=(codec,), name=f"measure-{codec}", daemon=True).start()

    def _run(self, codec: str) -> None:
        try:
            taken = share(codec, self._picture, hardware=self._media.hardware)
            answer = CodecMeasured(codec, taken)
        except (av.FFmpegError, ValueError) as error:
            answer = CodecMeasured(codec, None, str(error))
        with self._lock:
            self._known[codec] = answer
        self._emit(answer)
