"""Parses and checks a viewer's SDP offer before anything is opened, with clear error messages.

It uses the first section that receives video, and a data channel that shares its transport. All other
sections are answered as inactive, so that offers with audio and offers without BUNDLE work too. It knows no
sessions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aiortc import RTCIceCandidate
from aiortc.sdp import candidate_from_sdp

from engine.errors import InvalidInput
from server.codecs import CODECS, NAMES
from server.webrtc.signalling import sdp
from server.webrtc.signalling.codecs import Sendable, sendable
from server.webrtc.signalling.sdp import Description, MediaSection

MAX_SDP_BYTES = 64 * 1024
MAX_PARTS = 16
MAX_CANDIDATES = 32


@dataclass(frozen=True)
class Offer:
    """`transport` has the ICE and DTLS lines of the transport that `shared`, the mids of all parts on it,
    use. `codecs` are those that this server can send, in the viewer's order."""

    description: Description
    video: MediaSection
    data: MediaSection | None
    shared: tuple[str, ...]
    transport: tuple[str, ...]
    codecs: tuple[Sendable, ...]
    candidates: tuple[RTCIceCandidate, ...]

    @property
    def mid(self) -> str:
        return self.video.mid

    @property
    def ufrag(self) -> str:
        return next((line[12:] for line in self.transport if line.startswith("a=ice-ufrag:")), "")

    @property
    def pwd(self) -> str:
        return next((line[10:] for line in self.transport if line.startswith("a=ice-pwd:")), "")

    def fitting(self, wanted: str | None, levels: Mapping[str, int]) -> list[Sendable]:
        """The codecs that this viewer can be sent, in its order: all, or those of the requested kind.
        `levels` are those that the session's picture requires. Raises NotAcceptable, InvalidInput."""
        if wanted is not None and wanted not in CODECS:
            raise InvalidInput(f"codec must be one of {', '.join(CODECS)}", field="codec")
        fitting = [c for c in self.codecs if c.level is None or c.level >= levels.get(c.codec, 0)]
        found = [c for c in fitting if wanted in (None, c.codec)]
        if found:
            return found
        if wanted is not None:
            names = ", ".join(dict.fromkeys(NAMES[c.codec] for c in fitting)) or "no codec of this server"
            raise NotAcceptable(
                f"the offer has no {wanted.upper()} that can be sent; it has {names}", field="codec"
            )
        raise NotAcceptable(
            f"the offer's video has no codec of this server: offer one of {', '.join(NAMES.values())}; H264 "
            f"with packetization-mode=1 and at least level {levels.get('h264', 0) / 10:g}",
            field="sdp",
        )


class NotAcceptable(InvalidInput):
    """A valid offer without a codec that this server can send."""

    code = "not_acceptable"


def read_offer(body: bytes) -> Offer:
    """Raises InvalidInput, with a message that says what is wrong."""
    description = sdp.parse(_text(body))
    if len(description.parts) > MAX_PARTS:
        raise InvalidInput(f"the offer has more than {MAX_PARTS} m= parts", field="sdp")
    video = _video(description.parts)
    bundle = next((mids for mids in description.bundles if video.mid in mids), [video.mid])
    together = {p.mid: p for p in description.parts if p.mid in bundle and p.offered}
    shared = tuple(mid for mid in dict.fromkeys(bundle) if mid in together)
    owner = next((together[mid] for mid in shared if together[mid].port), video)  # RFC 8843: the first one's
    data = next((p for p in together.values() if p.kind == "application" and _is_channel(p)), None)
    return Offer(
        description=description,
        video=video,
        data=data,
        shared=shared,
        transport=_transport(description, owner),
        codecs=tuple(sendable(video)),
        candidates=read_candidates(owner.lines),
    )


def read_candidates(
    lines: tuple[str, ...] | list[str], mids: tuple[str, ...] = ()
) -> tuple[RTCIceCandidate, ...]:
    """The usable candidates: UDP, with an address. Candidates under an `a=mid:` line that is not in `mids`
    are ignored, and so are malformed ones. A `.local` name hides an address; that browser will contact us."""
    found: list[RTCIceCandidate] = []
    ours = True
    for line in lines:
        if line.startswith("a=mid:") and mids:
            ours = line[6:].strip() in mids
        if not line.startswith("a=candidate:") or not ours or len(found) >= MAX_CANDIDATES:
            continue
        try:
            candidate = candidate_from_sdp(line.removeprefix("a=candidate:").strip())
        except (ValueError, AssertionError, IndexError):
            continue
        if candidate.protocol.lower() == "udp" and candidate.component == 1 and _is_address(candidate.ip):
            found.append(candidate)
    return tuple(found)


def _is_address(name: str) -> bool:
    return not name.endswith(".local")


def _text(body: bytes) -> str:
    if len(body) > MAX_SDP_BYTES:
        raise InvalidInput(
            f"the offer is {len(body)} bytes, at most {MAX_SDP_BYTES} are allowed", field="sdp"
        )
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidInput("the offer is not text in UTF-8", field="sdp") from None
    if not text.lstrip().startswith("v=0"):
        raise InvalidInput("the body is not an SDP offer: it must begin with v=0", field="sdp")
    return text.lstrip()


def _video(parts: tuple[MediaSection, ...]) -> MediaSection:
    if not parts:
        raise InvalidInput("the offer has no m= part: add a video transceiver that receives", field="sdp")
    mids = [part.mid for part in parts]
    if not all(mids) or len(set(mids)) != len(mids):
        raise InvalidInput("each m= part of the offer needs an a=mid of its own", field="sdp")
    for part in parts:
        if part.kind == "video" and part.offered and part.direction in ("recvonly", "sendrecv"):
            if part.value("rtcp-mux") is None and part.value("rtcp-mux-only") is None:
                raise InvalidInput("the video part of the offer lacks a=rtcp-mux", field="sdp")
            return part
    raise InvalidInput("the offer has no video part that receives: add one with recvonly", field="sdp")


def _is_channel(part: MediaSection) -> bool:
    return part.value("sctp-port") is not None or part.protocol == "DTLS/SCTP"


def _transport(description: Description, owner: MediaSection) -> tuple[str, ...]:
    """The ICE and DTLS lines, which may also be at session level."""
    lines: list[str] = []
    for name in sdp.TRANSPORT:
        start = f"a={name}:"
        own = [line for line in owner.lines if line.startswith(start)]
        lines += own or [line for line in description.session if line.startswith(start)]
    for names in (("ice-ufrag", "ice-pwd"), ("fingerprint", "setup")):
        for name in names:
            if not any(len(line) > len(name) + 3 for line in lines if line.startswith(f"a={name}:")):
                raise InvalidInput(f"the {owner.kind} part of the offer lacks a={name}", field="sdp")
    return tuple(lines)
