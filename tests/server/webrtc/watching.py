"""What a viewer of the fake model sees."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tests.rigs.server.server_rig import Watcher, until


def colour(picture: npt.NDArray[np.uint8]) -> str:
    """Which of red, green and blue the sky has most of; the fake paints it in the prompt's colour."""
    return ("red", "green", "blue")[int(picture[20:60].mean((0, 1)).argmax())]


async def shows(viewer: Watcher, wanted: str, frames: int = 60) -> int:
    """Watch until the picture has this colour; how many frames that took."""
    for count in range(frames):
        if colour(await viewer.picture()) == wanted:
            return count
    raise AssertionError(f"{frames} frames and none was {wanted}")


async def connected(viewer: Watcher) -> None:
    """Its data channel is open."""
    await until(lambda: viewer.heard("session"), "session message")
