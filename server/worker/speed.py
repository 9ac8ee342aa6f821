"""Measures how long an encoder takes per frame on this machine, to decide which codecs work in real time.

The test picture is moving noise, which is the worst case for an encoder.
"""

from __future__ import annotations

import statistics
import time

import numpy as np

from server.worker.contexts import PictureFormat
from server.worker.encoder import ToYuv, VideoEncoder

FRAMES = 24
SHARE_MAX = 0.5  # acceptable share of one core for one rung of one session


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
