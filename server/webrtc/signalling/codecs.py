"""The codecs in an offer that this server can send: by name, H.264 profile and level, packetization."""

from __future__ import annotations

from dataclasses import dataclass

from server.webrtc.signalling.sdp import MediaSection
from server.worker.encoder import CODECS, Codec

RTP_NAMES: dict[str, Codec] = {"VP8/90000": "vp8", "H264/90000": "h264"}
# H.264 profile_idc of decoders that play Constrained Baseline, which is what the encoder makes:
# Baseline, Main, Extended, High, High 10, High 4:2:2, High 4:4:4
H264_PROFILES = (66, 77, 88, 100, 110, 122, 244)
H264_UNNAMED = "42000a"  # RFC 6184: what an offer without profile-level-id means


@dataclass(frozen=True)
class Sendable:
    """A payload type of the offer that this server can send. `rtx` is its retransmission payload type, if
    offered; `level` is the highest H.264 level that the viewer decodes, 31 for 3.1."""

    codec: Codec
    format: str
    rtx: str | None
    name: str  # as in rtpmap
    parameters: str  # as in fmtp
    feedback: tuple[str, ...]  # as in rtcp-fb
    level: int | None = None


def sendable(video: MediaSection) -> list[Sendable]:
    """In the viewer's order of preference, that of the m= line."""
    found = []
    for format_ in video.formats:
        name = next(video.of_format("rtpmap", format_), "")
        codec = next((c for known, c in RTP_NAMES.items() if known.lower() == name.lower()), None)
        if codec is None or codec not in CODECS:
            continue
        text = next(video.of_format("fmtp", format_), "")
        level = None
        if codec == "h264":
            level = h264_level_of(parameters(text))
            if level is None:
                continue
        feedback = (*video.of_format("rtcp-fb", format_), *video.of_format("rtcp-fb", "*"))
        found.append(Sendable(codec, format_, _rtx(video, format_), name, text, feedback, level))
    return found


def h264_level_of(given: dict[str, str]) -> int | None:
    """The highest level that this decoder takes; None where it can't play what is sent: fragmented units
    (packetization-mode 1) of Constrained Baseline."""
    if given.get("packetization-mode", "0") != "1":
        return None
    try:
        profile, _, level = bytes.fromhex(given.get("profile-level-id", H264_UNNAMED))
    except ValueError:
        return None
    return level if profile in H264_PROFILES else None


def parameters(fmtp: str) -> dict[str, str]:
    pairs = (item.strip().partition("=") for item in fmtp.split(";"))
    return {name.lower(): value for name, _, value in pairs if name}


def _rtx(video: MediaSection, format_: str) -> str | None:
    for other in video.formats:
        if next(video.of_format("rtpmap", other), "").lower() == "rtx/90000":
            given = parameters(next(video.of_format("fmtp", other), ""))
            if given.get("apt") == format_:
                return other
    return None
