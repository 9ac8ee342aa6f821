"""The codecs in an offer that this server can send: by name, profile, level and packetization."""

from __future__ import annotations

from dataclasses import dataclass

from server.codecs import NAMES, Codec
from server.webrtc.signalling.sdp import MediaSection

RTP_NAMES: dict[str, Codec] = {f"{name}/90000".lower(): codec for codec, name in NAMES.items()}
# H.264 profile_idc of decoders that play Constrained Baseline, which is what the encoder makes:
# Baseline, Main, Extended, High, High 10, High 4:2:2, High 4:4:4
H264_PROFILES = (66, 77, 88, 100, 110, 122, 244)
H264_UNNAMED = "42000a"  # RFC 6184: what an offer without profile-level-id means
AV1_UNNAMED = "5"  # the AV1 payload format: what an offer without level-idx means


@dataclass(frozen=True)
class Sendable:
    """A payload type of the offer that this server can send. `rtx` is its retransmission payload type, if
    offered; `level` is the highest level that the viewer decodes: of H.264, 31 for 3.1; of AV1, its index."""

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
        codec = RTP_NAMES.get(name.lower())
        if codec is None:
            continue
        text = next(video.of_format("fmtp", format_), "")
        plays, level = decodes(codec, parameters(text))
        if not plays:
            continue
        feedback = (*video.of_format("rtcp-fb", format_), *video.of_format("rtcp-fb", "*"))
        found.append(Sendable(codec, format_, _rtx(video, format_), name, text, feedback, level))
    return found


def decodes(codec: Codec, given: dict[str, str]) -> tuple[bool, int | None]:
    """Whether a decoder with these parameters can play the stream, and the highest level that it supports;
    None if levels are not negotiated."""
    match codec:
        case "h264":
            level = h264_level_of(given)
            return level is not None, level
        case "vp9":
            return given.get("profile-id", "0") == "0", None
        case "av1":
            text = given.get("level-idx", AV1_UNNAMED)
            plays = given.get("profile", "0") == "0" and text.isdecimal()
            return plays, int(text) if plays else None
        case _:
            return True, None


def h264_level_of(given: dict[str, str]) -> int | None:
    """The highest level that this decoder supports; None if it cannot play the stream: fragmented units
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
