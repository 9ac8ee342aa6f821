"""Chooses the codec for a viewer: the first one in its offer that the server's workers encode in real
time."""

from __future__ import annotations

from typing import Protocol

from server.codecs import NAMES, Codec
from server.webrtc.signalling.codecs import Sendable
from server.webrtc.signalling.offer import NotAcceptable, Offer
from server.worker.contexts import PictureFormat, av1_level, h264_level


class Encoding(Protocol):
    """Those who encode: see server.gateway.fleet.encoders."""

    def common(self) -> tuple[Codec, ...]: ...

    async def encode(self, codec: Codec) -> bool: ...


async def choose(
    encoders: Encoding, offer: Offer, wanted: str | None, picture: PictureFormat | None
) -> Sendable:
    """`wanted` is the codec that the viewer requested by name. `picture` is the top rung's format, None while
    it is unknown. Raises NotAcceptable, InvalidInput."""
    levels = {"h264": h264_level(picture), "av1": av1_level(picture)} if picture else {}
    slow: set[Codec] = set()
    for each in offer.fitting(wanted, levels):
        if await encoders.encode(each.codec):
            return each
        slow.add(each.codec)
    names = ", ".join(NAMES[codec] for codec in encoders.common() if codec not in slow)
    raise NotAcceptable(f"this server sends {names}, and the offer has none of them", field="sdp")
