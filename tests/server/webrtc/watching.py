"""What a viewer of the fake model sees, and when."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from av import VideoFrame

from tests.rigs.server.server_rig import Watcher, until


def colour(picture: npt.NDArray[np.uint8]) -> str:
    """The dominant colour of the sky: red, green or blue. The fake model paints it in the prompt's colour."""
    return ("red", "green", "blue")[int(picture[20:60].mean((0, 1)).argmax())]


async def shows(viewer: Watcher, wanted: str, frames: int = 60) -> int:
    """Watch until the picture has this colour. Returns how many frames that took."""
    for count in range(frames):
        if colour(await viewer.picture()) == wanted:
            return count
    raise AssertionError(f"{frames} frames and none was {wanted}")


def media_time(viewer: Watcher, frame: VideoFrame) -> int:
    """The frame's media time (pts_90k), by the `clock` message and its RTP timestamp. aiortc counts from the
    first frame's timestamp, which only its receiver knows."""
    mapper = viewer.pc.getReceivers()[0]._RTCRtpReceiver__timestamp_mapper  # type: ignore[attr-defined]
    rtp_offset: int = viewer.heard("clock")[0]["rtp_offset"]
    return ((frame.pts or 0) + int(mapper._origin) - rtp_offset) % (1 << 32)


async def connected(viewer: Watcher) -> None:
    """Wait until its data channel is open."""
    await until(lambda: viewer.heard("session"), "session message")
