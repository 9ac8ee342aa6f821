"""Hardware encoding of H.264, if PyAV has an encoder that passes a probe; otherwise x264.

The probe checks that an encoder opens, delays no frame, makes keyframes on request and only then, and sends
Baseline with the parameter sets in each keyframe. A driver without a usable encoder is common: an H100 has no
encoder at all, and a GeForce opens only a few at a time.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple, cast

import av
from av.codec.hwaccel import HWAccel
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from server.worker.contexts import NEVER, TIME_BASE, VBV_S, PictureFormat, software

log = logging.getLogger(__name__)

SOFTWARE = "libx264"
PROBE = PictureFormat(320, 192, 16, 500_000)
PROBE_KEYS = (True, False, True, False)
BASELINE = 66  # profile_idc that is negotiated with viewers
SEQUENCE_PARAMETERS = 7


class HardwareEncoder(NamedTuple):
    """`device` is FFmpeg's name of the device that frames are uploaded to; None if the encoder uploads
    them."""

    name: str
    device: str | None
    options: Callable[[PictureFormat], dict[str, str]]


def _nvenc(picture: PictureFormat) -> dict[str, str]:
    return {"preset": "p2", "tune": "ull", "rc": "cbr", "zerolatency": "1", "delay": "0", "forced-idr": "1"}


def _videotoolbox(picture: PictureFormat) -> dict[str, str]:
    return {"realtime": "1", "prio_speed": "1"}


def _vaapi(picture: PictureFormat) -> dict[str, str]:
    return {"rc_mode": "CBR", "async_depth": "1", "idr_interval": "0"}


ENCODERS = (
    HardwareEncoder("h264_nvenc", None, _nvenc),
    HardwareEncoder("h264_videotoolbox", None, _videotoolbox),
    HardwareEncoder("h264_vaapi", "vaapi", _vaapi),
)


class Choice(NamedTuple):
    """The encoder to use. `encoder` is None for x264; `why` then says why each hardware encoder failed."""

    encoder: HardwareEncoder | None
    why: str

    @property
    def name(self) -> str:
        return self.encoder.name if self.encoder else SOFTWARE


class Unusable(Exception):
    """The reason why an encoder cannot be used."""


@functools.cache
def chosen() -> Choice:
    """The encoder of this process. The first call probes all encoders and logs one line."""
    choice = choose(ENCODERS)
    log.info("H.264 is encoded by %s (%s)", choice.name, choice.why)
    return choice


def choose(encoders: tuple[HardwareEncoder, ...]) -> Choice:
    """The first encoder that passes the probe."""
    reasons = []
    for encoder in encoders:
        try:
            probe(encoder)
        except Unusable as error:
            reasons.append(f"{encoder.name}: {error}")
        else:
            return Choice(encoder, "probed")
    return Choice(None, "; ".join(reasons))


def open_h264(picture: PictureFormat, *, hardware: bool = True) -> VideoCodecContext:
    """An open encoder: the chosen one, or x264 if that one cannot be opened or `hardware` is off."""
    encoder = chosen().encoder if hardware else None
    if encoder is not None:
        try:
            return opened(encoder, picture)
        except Unusable as error:
            log.warning("H.264 is encoded by %s for now: %s: %s", SOFTWARE, encoder.name, error)
    return software("h264", picture)


def opened(encoder: HardwareEncoder, picture: PictureFormat) -> VideoCodecContext:
    """An open encoder of this kind. Raises Unusable."""
    try:
        accel = HWAccel(encoder.device) if encoder.device else None
        context = cast(VideoCodecContext, av.CodecContext.create(encoder.name, "w", accel))
        if accel is None:
            context.pix_fmt = "yuv420p"
        context.width, context.height = picture.width, picture.height
        context.time_base, context.framerate = TIME_BASE, Fraction(picture.fps)
        context.gop_size, context.max_b_frames = NEVER, 0
        context.bit_rate = picture.bitrate_bps
        context.profile = "Baseline"
        context.options = {
            "maxrate": str(picture.bitrate_bps),
            "bufsize": str(int(picture.bitrate_bps * VBV_S)),
            **encoder.options(picture),
        }
        context.open()
    except (av.FFmpegError, ValueError, RuntimeError, NotImplementedError) as error:
        raise Unusable(_reason(error)) from None
    return context


def probe(encoder: HardwareEncoder) -> None:
    """Encode four frames and check the packets. Raises Unusable."""
    context = opened(encoder, PROBE)
    frame = av.VideoFrame(PROBE.width, PROBE.height, "yuv420p")
    for i, key in enumerate(PROBE_KEYS):
        frame.pts, frame.time_base = i * 90_000 // PROBE.fps, TIME_BASE
        frame.pict_type = PictureType.I if key else PictureType.NONE
        try:
            packets = context.encode(frame)
        except (av.FFmpegError, ValueError, RuntimeError) as error:
            raise Unusable(_reason(error)) from None
        if len(packets) != 1:
            raise Unusable("it delays frames")
        if packets[0].is_keyframe != key:
            raise Unusable("it makes keyframes that were not requested, or ignores requests")
        if key and _profile(bytes(packets[0])) != BASELINE:
            raise Unusable("its keyframes do not start with Baseline parameter sets")


def _profile(data: bytes) -> int | None:
    """profile_idc of the sequence parameter set in an Annex B frame; None if there is none."""
    at = data.find(b"\x00\x00\x01")
    while 0 <= at < len(data) - 4:
        if data[at + 3] & 0x1F == SEQUENCE_PARAMETERS:
            return data[at + 4]
        at = data.find(b"\x00\x00\x01", at + 3)
    return None


def _reason(error: Exception) -> str:
    if isinstance(error, av.codec.codec.UnknownCodecError):
        return "not in this PyAV"
    if isinstance(error, PermissionError):
        return "no driver, or no device for it"
    return getattr(error, "strerror", None) or str(error).splitlines()[0][:100] or type(error).__name__
