"""What a viewer's SDP offer must have, checked before aiortc sees it; faults are told in plain words.

Candidates are taken out of it: aiortc would wait a second for a browser's `.local` names, and with
max-bundle it keeps those of the last part only. It knows no sessions and opens nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiortc import RTCIceCandidate
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters
from aiortc.sdp import GroupDescription, MediaDescription, candidate_from_sdp

from engine.errors import InvalidInput
from engine.wire.strict_json import printable
from server.webrtc.adapter import parse_sdp
from server.worker.encoder import CODECS

MAX_SDP_BYTES = 64 * 1024
MAX_PARTS = 8
MAX_CANDIDATES = 32
CANDIDATE_LINES = ("a=candidate:", "a=end-of-candidates")


@dataclass(frozen=True)
class Offer:
    """`sdp` is without candidates; `codecs` are those we have, in the viewer's order."""

    sdp: str
    candidates: tuple[RTCIceCandidate, ...]
    codecs: tuple[str, ...]
    extensions: tuple[RTCRtpHeaderExtensionParameters, ...]
    mid: str  # of the part whose transport all others share
    ufrag: str  # its ICE user name

    def pick(self, wanted: str | None) -> str:
        """The codec to send. Raises NotAcceptable."""
        ours = ", ".join(c.upper() for c in CODECS)
        if wanted is not None:
            if wanted not in CODECS:
                raise InvalidInput(f"codec must be one of {', '.join(CODECS)}", field="codec")
            if wanted not in self.codecs:
                raise NotAcceptable(f"the offer has no {wanted.upper()}; it has {self.codecs}", field="codec")
            return wanted
        if not self.codecs:
            raise NotAcceptable(f"the offer's video has none of our codecs: offer {ours}", field="sdp")
        return self.codecs[0]


class NotAcceptable(InvalidInput):
    """A good offer that has nothing this server can send."""

    code = "not_acceptable"


def read_offer(body: bytes) -> Offer:
    """Raises InvalidInput that says what is wrong with it."""
    text = _text(body)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").strip("\n").split("\n")
    bare = [line for line in lines if not line.startswith(CANDIDATE_LINES)]
    sdp = "\r\n".join(bare) + "\r\n"
    if sum(line.startswith("m=") for line in bare) > MAX_PARTS:
        raise InvalidInput(f"the offer has more than {MAX_PARTS} m= parts", field="sdp")
    description = parse_sdp(sdp)
    parts = description.media
    video = _check_parts(parts)
    _check_bundle([str(part.rtp.muxId) for part in parts], description.group)
    return Offer(
        sdp=sdp,
        candidates=read_candidates(lines, parts[0].rtp.muxId),
        codecs=_codecs(video),
        extensions=tuple(video.rtp.headerExtensions),
        mid=parts[0].rtp.muxId,
        ufrag=(parts[0].ice.usernameFragment or "") if parts[0].ice else "",
    )


def read_candidates(lines: list[str], mid: str) -> tuple[RTCIceCandidate, ...]:
    """Those that are of use: UDP, with an address. A `.local` name hides one from us: such a browser finds
    us instead, and its address is learned from its checks. What can't be read is left out."""
    found: list[RTCIceCandidate] = []
    for line in lines:
        if not line.startswith("a=candidate:") or len(found) >= MAX_CANDIDATES:
            continue
        try:
            candidate = candidate_from_sdp(line.removeprefix("a=candidate:").strip())
        except (ValueError, AssertionError, IndexError):
            continue
        if candidate.protocol.lower() != "udp" or candidate.ip.endswith(".local") or candidate.component != 1:
            continue
        candidate.sdpMid = mid
        found.append(candidate)
    return tuple(found)


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


def _check_parts(parts: list[MediaDescription]) -> MediaDescription:
    """The video part. What aiortc takes for granted later, in tasks of its own, is checked here."""
    if not parts:
        raise InvalidInput("the offer has no m= part: add a video transceiver that receives", field="sdp")
    video = None
    mids = [part.rtp.muxId for part in parts]
    if not all(mids) or len(set(mids)) != len(mids):
        raise InvalidInput("each m= part of the offer needs an a=mid of its own", field="sdp")
    for part in parts:
        where = f"the {printable(part.kind)} part of the offer"
        if part.kind not in ("audio", "video", "application"):
            raise InvalidInput(f"{where} is not known here: offer video and a data channel", field="sdp")
        if part.ice is None or not part.ice.usernameFragment or not part.ice.password:
            raise InvalidInput(f"{where} lacks a=ice-ufrag or a=ice-pwd", field="sdp")
        if part.dtls is None or not part.dtls.fingerprints:
            raise InvalidInput(f"{where} lacks a=fingerprint or a=setup", field="sdp")
        if part.kind == "application" and part.sctp_port is None and part.profile != "DTLS/SCTP":
            raise InvalidInput(f"{where} lacks a=sctp-port", field="sdp")
        if part.kind != "application" and not part.rtcp_mux:
            raise InvalidInput(f"{where} lacks a=rtcp-mux", field="sdp")
        if video is None and part.kind == "video" and part.direction in ("recvonly", "sendrecv", None):
            video = part
    if video is None:
        raise InvalidInput("the offer has no video part that receives: add one with recvonly", field="sdp")
    return video


def _check_bundle(mids: list[str], groups: list[GroupDescription]) -> None:
    """aiortc takes the first name for the transport that all share, and fails much later if it is another."""
    bundles = [group.items for group in groups if group.semantic == "BUNDLE"]
    if bundles != [mids] and (bundles or len(mids) > 1):
        raise InvalidInput(
            "a=group:BUNDLE must name the a=mid of all parts, in their order: use bundlePolicy max-bundle",
            field="sdp",
        )


def _codecs(video: MediaDescription) -> tuple[str, ...]:
    """Ours among those offered, in the order of the m= line."""
    names = {c.payloadType: c.name.lower() for c in video.rtp.codecs}
    ordered = [names.get(payload, "") for payload in video.fmt]
    return tuple(dict.fromkeys(name for name in ordered if name in CODECS))
