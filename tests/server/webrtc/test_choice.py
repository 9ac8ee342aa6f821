"""Which codec a viewer is sent: what is too slow here, or left out by the operator, is passed over."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from server.webrtc.signalling.choice import CodecChoice
from server.webrtc.signalling.offer import NotAcceptable
from server.worker.contexts import PictureFormat
from tests.server.webrtc.test_offer import ALONE, VIDEO, other, read


def share_of(**shares: float) -> Callable[[str, PictureFormat], float]:
    return lambda codec, picture: shares[codec]


async def test_a_codec_that_is_too_slow_here_is_skipped() -> None:
    offer, picture = other("AV1/90000"), PictureFormat(320, 192, 16, 900_000)
    fast, slow = CodecChoice(measure=share_of(av1=0.1)), CodecChoice(measure=share_of(av1=0.9))
    assert (await fast.choose(offer, None, picture)).codec == "av1"
    assert (await slow.choose(offer, None, picture)).codec == "vp8"
    assert (await fast.choose(offer, None, None)).codec == "vp8", "nothing can be measured yet"
    with pytest.raises(NotAcceptable, match="sends VP8, H264, VP9, and"):
        await slow.choose(offer, "av1", picture)


async def test_a_codec_that_the_operator_left_out_is_skipped() -> None:
    choice = CodecChoice(("h264",))
    assert (await choice.choose(read(*ALONE, *VIDEO), None, None)).codec == "h264"
    with pytest.raises(NotAcceptable, match="sends H264"):
        await choice.choose(other("VP9/90000"), None, None)


async def test_an_encoder_that_fails_is_measured_once_and_left_out() -> None:
    measured = []

    def measure(codec: str, picture: PictureFormat) -> float:
        measured.append(codec)
        raise ValueError("no such encoder")

    choice, picture = CodecChoice(measure=measure), PictureFormat(320, 192, 16, 900_000)
    for _ in range(2):
        assert (await choice.choose(other("AV1/90000"), None, picture)).codec == "vp8"
    assert measured == ["av1"]
