"""A JPEG picture of a session, made from a keyframe of its encoded stream."""

from __future__ import annotations

import asyncio
import io

from PIL import Image

from engine.videofile.decode import first_frame
from server.ladder import parts
from server.webrtc.fanout import Fanout, Subscription
from server.webrtc.rtp.packetize import Payloads

MAX_WIDTH = 640
MAX_BYTES = 30_000  # some brokers refuse more than 64 KiB, and the bridge more than 32 KiB
QUALITIES = (85, 70, 50, 30, 10)


class Visit:
    """A viewer that accepts keyframes only. The session plays inside `with Visit(fanout) as visit`."""

    def __init__(self, fanout: Fanout) -> None:
        codec, rung = parts(fanout.recent.rendition) if fanout.recent.rendition else ("vp8", 0)
        self._fanout = fanout
        self._subscription = Subscription(codec, self._take, rung)
        self._next: asyncio.Future[bytes] | None = None

    def __enter__(self) -> Visit:
        self._fanout.join(self._subscription)
        return self

    def __exit__(self, *_: object) -> None:
        self._fanout.leave(self._subscription)

    async def picture(self, within_s: float) -> bytes | None:
        """A JPEG file; None if no keyframe arrives in time."""
        self._next = asyncio.get_running_loop().create_future()
        self._fanout.request_keyframe(self._subscription)
        try:
            async with asyncio.timeout(within_s):
                return await asyncio.to_thread(jpeg, self._subscription.codec, await self._next)
        except TimeoutError:
            return None
        finally:
            self._next = None

    def _take(self, payloads: Payloads) -> bool:
        if payloads.keyframe and self._next is not None and not self._next.done():
            self._next.set_result(payloads.data)
        return True


def jpeg(codec: str, keyframe: bytes) -> bytes | None:
    """A keyframe as a JPEG file of at most `MAX_BYTES`; None if it is not a keyframe."""
    frame = first_frame(codec, keyframe)
    if frame is None:
        return None
    image = Image.fromarray(frame.to_ndarray(format="rgb24"))
    image.thumbnail((MAX_WIDTH, MAX_WIDTH))
    for quality in QUALITIES:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        if len(file.getvalue()) <= MAX_BYTES:
            return file.getvalue()
    return None
