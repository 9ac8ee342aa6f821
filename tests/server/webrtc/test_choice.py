"""Which codec a viewer is sent: the first one of its offer that the workers encode."""

from __future__ import annotations

import pytest

from server.codecs import CODECS, Codec
from server.webrtc.signalling.choice import choose
from server.webrtc.signalling.offer import NotAcceptable
from tests.server.webrtc.test_offer import ALONE, VIDEO, other, read


class Workers:
    """Those who encode: `allowed`, but not what is `slow`."""

    def __init__(self, allowed: tuple[Codec, ...] = CODECS, slow: tuple[Codec, ...] = ()) -> None:
        self._allowed, self._slow = allowed, slow

    def common(self) -> tuple[Codec, ...]:
        return self._allowed

    async def encode(self, codec: Codec) -> bool:
        return codec in self._allowed and codec not in self._slow


async def test_a_codec_that_is_too_slow_is_skipped() -> None:
    offer, slow = other("AV1/90000"), Workers(slow=("av1",))
    assert (await choose(Workers(), offer, None, None)).codec == "av1"
    assert (await choose(slow, offer, None, None)).codec == "vp8"
    with pytest.raises(NotAcceptable, match="sends VP8, H264, VP9, and"):
        await choose(slow, offer, "av1", None)


async def test_a_codec_that_is_left_out_is_skipped() -> None:
    only = Workers(("h264",))
    assert (await choose(only, read(*ALONE, *VIDEO), None, None)).codec == "h264"
    with pytest.raises(NotAcceptable, match="sends H264"):
        await choose(only, other("VP9/90000"), None, None)
