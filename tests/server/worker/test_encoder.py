"""Encoders: nearly lossless on flat pictures, no delay, keyframes on request and only then."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from engine.errors import InvalidInput
from engine.types import ByteArray
from engine.videofile.decode import decoder
from server.codecs import CODECS
from server.config import MediaConfig
from server.worker.contexts import PictureFormat, h264_level
from server.worker.encoder import Encoded, ToYuv, VideoEncoder


def drawing(shift: int = 0) -> ByteArray:
    """Flat shapes with hard, saturated edges, which are hardest for video codecs."""
    picture = np.empty((96, 160, 3), np.uint8)
    picture[:64], picture[64:] = (90, 160, 240), (60, 160, 70)
    picture[30:70, 20 + shift : 44 + shift] = (200, 40, 40)
    picture[60:76, 90 - shift : 106 - shift] = (240, 220, 60)
    return picture


def encode(codec: str, count: int, keyframes: tuple[int, ...] = ()) -> list[Encoded]:
    to_yuv, encoder = ToYuv(2), VideoEncoder(codec, 320, 192, 16, 900_000)
    encoded = [encoder.encode(to_yuv(drawing(i)), i * 5625, keyframe=i in keyframes) for i in range(count)]
    assert all(encoded), "an encoder held a frame back"
    return [e for e in encoded if e is not None]


def decode(codec: str, encoded: list[Encoded]) -> list[npt.NDArray[np.float64]]:
    context = decoder(codec)
    frames = [frame for e in encoded for frame in context.decode(av.Packet(e.data))]
    return [f.reformat(160, 96, "rgb24").to_ndarray().astype(np.float64) for f in frames]


def psnr(a: npt.NDArray[np.float64], b: ByteArray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, ((a - b) ** 2).mean())))


@pytest.mark.parametrize("codec", CODECS)
def test_flat_pictures_are_nearly_lossless(codec: str) -> None:
    pictures = decode(codec, encode(codec, 16))
    assert len(pictures) == 16
    quality = [psnr(picture, drawing(i)) for i, picture in enumerate(pictures)]
    assert min(quality) > 29.5, quality  # 4:2:0 at the model's own size can't reach this with hard edges


@pytest.mark.parametrize("codec", CODECS)
def test_keyframes_are_made_at_the_start_and_on_request(codec: str) -> None:
    keys = [i for i, e in enumerate(encode(codec, 24, keyframes=(9, 10))) if e.keyframe]
    assert keys == [0, 9, 10]


@pytest.mark.parametrize("codec", CODECS)
def test_a_stream_can_be_entered_at_a_forced_keyframe(codec: str) -> None:
    encoded = encode(codec, 14, keyframes=(8,))
    pictures = decode(codec, encoded[8:])
    assert len(pictures) == 6
    assert psnr(pictures[-1], drawing(13)) > 30


def test_one_frame_serves_all_codecs() -> None:
    """Encoders share the converted frame; one must not see another one's keyframe request."""
    frame = ToYuv(2)(drawing())
    encoders = [VideoEncoder(codec, 320, 192, 16, 900_000) for codec in CODECS]
    for i in range(3):
        encoded = [e.encode(frame, i * 5625, keyframe=e is encoders[0]) for e in encoders]
        assert [e.keyframe for e in encoded if e] == [True] + [i == 0] * (len(CODECS) - 1)


def test_colour_keeps_its_edges_when_small_pictures_are_doubled() -> None:
    """The mean of each square is the model's pixel again, as on the page. FFmpeg's own scaling would smear
    the colour, so it is not used here."""

    def error(scale: int) -> float:  # edges between two pixels that share their colour
        planes = ToYuv(scale)(drawing(1)).to_ndarray().astype(np.float64)
        height, width = 96 * scale, 160 * scale
        light = 1.164 * (planes[:height] - 16)
        blue, red = (
            plane.reshape(height // 2, width // 2).repeat(2, 0).repeat(2, 1) - 128
            for plane in np.split(planes[height:], 2)
        )
        picture = np.stack(
            [light + 1.596 * red, light - 0.392 * blue - 0.813 * red, light + 2.017 * blue], axis=-1
        )
        back = picture.reshape(96, scale, 160, scale, 3).mean((1, 3)).clip(0, 255)
        return float(np.abs(back - drawing(1)).mean())

    assert error(2) < 0.7 * error(1)


def test_small_pictures_are_doubled_and_large_ones_are_not() -> None:
    assert MediaConfig().scale(160, 96) == 2
    assert MediaConfig().scale(848, 480) == 1
    assert MediaConfig(upscale=1).scale(160, 96) == 1


def test_the_bitrate_follows_the_size_within_limits() -> None:
    media = MediaConfig()
    assert media.bitrate(320, 192, 16) == 900_000
    assert 1_000_000 < media.bitrate(848, 480, 24) < 1_500_000
    assert media.bitrate(3840, 2160, 60) == 4_000_000
    assert MediaConfig(bitrate_bps=200_000).bitrate(848, 480, 24) == 200_000


@pytest.mark.parametrize(("field", "value"), [("bitrate_bps", 7), ("upscale", 9)])
def test_settings_out_of_range_are_refused(field: str, value: int) -> None:
    settings: dict[str, Any] = {field: value}
    with pytest.raises(InvalidInput, match="must be"):
        MediaConfig(**settings)


@pytest.mark.parametrize(
    ("size", "fps", "bitrate_bps", "level"),
    [((320, 192), 16, 300_000, 12), ((320, 192), 16, 900_000, 20), ((848, 480), 24, 1_200_000, 30)],
)
def test_h264_says_the_level_that_it_needs(
    size: tuple[int, int], fps: int, bitrate_bps: int, level: int
) -> None:
    """A decoder of a lower level would refuse the stream, one of this level must play it."""
    assert h264_level(PictureFormat(*size, fps, bitrate_bps)) == level
    frame = ToYuv(1)(np.zeros((size[1], size[0], 3), np.uint8))
    encoded = VideoEncoder("h264", *size, fps, bitrate_bps, hardware=False).encode(frame, 0, keyframe=True)
    assert encoded is not None
    parameters = encoded.data.index(b"\x00\x00\x01\x67") + 4
    assert encoded.data[parameters] == 66
    assert encoded.data[parameters + 2] == level


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("bitrate_bps", [405_000, 180_000])
def test_a_rung_keeps_its_rate_in_a_busy_scene(codec: str, bitrate_bps: int) -> None:
    """Otherwise a slow link could carry this rung no better than the one above."""
    dice = np.random.default_rng(1)
    noise = dice.integers(0, 255, (96, 320, 3), np.uint8)
    to_yuv, encoder = ToYuv(2), VideoEncoder(codec, 320, 192, 16, bitrate_bps)
    sizes = []
    for i in range(80):
        encoded = encoder.encode(
            to_yuv(np.ascontiguousarray(noise[:, i : i + 160])), i * 5625, keyframe=False
        )
        sizes.append(len(encoded.data) if encoded else 0)
    assert sum(sizes[16:]) * 8 / 4 < 1.15 * bitrate_bps


def test_half_the_resolution_is_even_and_keeps_the_picture() -> None:
    to_yuv = ToYuv(2)
    frame = to_yuv(drawing())
    half = to_yuv.divided(frame, 2)
    assert (half.width, half.height) == (160, 96)
    assert to_yuv.divided(frame, 1) is frame
    back = half.reformat(format="rgb24").to_ndarray().astype(np.float64)
    assert psnr(back, drawing()) > 20


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(InvalidInput, match="vp8, h264, vp9, av1"):
        VideoEncoder("theora", 320, 192, 16, 900_000)


def test_a_closed_encoder_returns_nothing() -> None:
    encoder = VideoEncoder("vp8", 320, 192, 16, 900_000)
    encoder.close()
    assert encoder.encode(ToYuv(2)(drawing()), 0, keyframe=False) is None


def test_timestamps_are_of_the_rtp_clock() -> None:
    frame = ToYuv(2)(drawing())
    VideoEncoder("vp8", 320, 192, 16, 900_000).encode(frame, 5625, keyframe=False)
    assert (frame.pts, frame.time_base) == (5625, Fraction(1, 90_000))
