"""Chooses the codec for a viewer: the first one in its offer that this server allows and encodes in real
time.

VP8 and H.264 are encoded in real time anywhere. The others are measured in a thread when a viewer first wants
one, and the result is kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import av

from server.codecs import ALWAYS_FAST, CODECS, NAMES, Codec
from server.webrtc.signalling.codecs import Sendable
from server.webrtc.signalling.offer import NotAcceptable, Offer
from server.worker.contexts import PictureFormat, av1_level, h264_level
from server.worker.speed import SHARE_MAX, share

log = logging.getLogger(__name__)


class CodecChoice:
    """`allowed` are the codecs that viewers may be sent. `measure` returns the share of one core that a codec
    takes for a picture; it is called in a thread."""

    def __init__(
        self, allowed: Sequence[Codec] = CODECS, measure: Callable[[str, PictureFormat], float] = share
    ) -> None:
        self._allowed, self._measure = allowed, measure
        self._fast: dict[tuple[Codec, PictureFormat | None], bool] = {}
        self._measuring = asyncio.Lock()

    async def choose(self, offer: Offer, wanted: str | None, picture: PictureFormat | None) -> Sendable:
        """`wanted` is the codec that the viewer requested by name. `picture` is the top rung's format, None
        while it is unknown. Raises NotAcceptable, InvalidInput."""
        levels = {"h264": h264_level(picture), "av1": av1_level(picture)} if picture else {}
        for each in offer.fitting(wanted, levels):
            if await self._sends(each.codec, picture):
                return each
        names = ", ".join(NAMES[codec] for codec in self._allowed if self._fast.get((codec, picture), True))
        raise NotAcceptable(f"this server sends {names}, and the offer has none of them", field="sdp")

    async def _sends(self, codec: Codec, picture: PictureFormat | None) -> bool:
        if codec not in self._allowed:
            return False
        if codec in ALWAYS_FAST:
            return True
        if picture is None:
            return False
        async with self._measuring:
            if (codec, picture) not in self._fast:
                self._fast[codec, picture] = await asyncio.to_thread(self._is_fast, codec, picture)
        return self._fast[codec, picture]

    def _is_fast(self, codec: Codec, picture: PictureFormat) -> bool:
        try:
            taken = self._measure(codec, picture)
        except (av.FFmpegError, ValueError) as error:
            log.warning("%s is not sent: it cannot be encoded here: %s", NAMES[codec], error)
            return False
        if taken > SHARE_MAX:
            log.warning("%s is not sent: encoding takes %.0f %% of a core", NAMES[codec], 100 * taken)
        return taken <= SHARE_MAX
