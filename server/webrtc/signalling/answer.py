"""Converts a viewer's offer to one that aiortc can answer, and aiortc's answer to one for the viewer.

aiortc supports two codecs, answers all media sections or none, and reads candidates from the last one only.
So it is given one video section and the data channel, and its transport lines are put into an answer to all
sections.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.errors import InvalidInput
from server.webrtc.adapter.negotiation import parse_sdp
from server.webrtc.adapter.restart import Credentials
from server.webrtc.rtp.stream import EXTENSIONS, Extensions
from server.webrtc.signalling import sdp
from server.webrtc.signalling.codecs import Sendable
from server.webrtc.signalling.offer import Offer
from server.webrtc.signalling.sdp import MediaSection

FORMAT, RTX = "96", "97"  # payload types between aiortc and us
FEEDBACK = ("nack", "nack pli", "ccm fir", "goog-remb", "transport-cc")  # feedback that this server handles
ALWAYS = ("a=ice-options:trickle",)


@dataclass(frozen=True)
class MediaSource:
    """The sender, as in `a=ssrc` lines."""

    ssrc: int
    rtx_ssrc: int
    stream: str
    cname: str


def inner_offer(offer: Offer) -> str:
    """The offer that aiortc answers. Raises InvalidInput if its parser would refuse it."""
    lines = [line for line in offer.description.session if not line.startswith("a=group:")]
    mids = [offer.mid] + ([offer.data.mid] if offer.data else [])
    lines.append("a=group:BUNDLE " + " ".join(mids))
    lines += [
        f"m=video 9 UDP/TLS/RTP/SAVPF {FORMAT} {RTX}",
        "c=IN IP4 0.0.0.0",
        f"a=mid:{offer.mid}",
        "a=recvonly",
        "a=rtcp-mux",
        f"a=rtpmap:{FORMAT} VP8/90000",
        f"a=rtpmap:{RTX} rtx/90000",
        f"a=fmtp:{RTX} apt={FORMAT}",
        *offer.transport,
    ]
    if offer.data is not None:
        kept = ("a=sctp-port", "a=sctpmap", "a=max-message-size", "a=mid")
        lines += [offer.data.media_line(9), "c=IN IP4 0.0.0.0"]
        lines += [line for line in offer.data.lines if line.startswith(kept)] + list(offer.transport)
    text = sdp.text(lines)
    described = parse_sdp(text)
    if any(part.dtls is None or not part.dtls.role for part in described.media):
        raise InvalidInput("the video part of the offer lacks a=setup", field="sdp")
    return text


def outer_answer(offer: Offer, chosen: Sendable, inner: str, source: MediaSource) -> str:
    """The answer to the viewer. `inner` is aiortc's answer."""
    answered = sdp.parse(inner)
    video = answered.parts[0]
    lines = [line for line in answered.session if not line.startswith("a=group:")]
    accepted = [mid for mid in offer.shared if not _is_extra_channel(offer, mid)]
    if any(offer.mid in mids for mids in offer.description.bundles):
        lines.append("a=group:BUNDLE " + " ".join(accepted))
    for part in offer.description.parts:
        if part.mid == offer.mid:
            lines += _video(offer, chosen, video, source)
        elif offer.data is not None and part.mid == offer.data.mid:
            lines += [answered.parts[1].media_line(), *answered.parts[1].lines]
        elif part.mid in accepted:
            lines += _silent(part, video)
        else:
            lines += [part.media_line(0), "c=IN IP4 0.0.0.0", f"a=mid:{part.mid}", "a=inactive"]
    return sdp.text(lines)


def restart_answer(offer: Offer, local: Credentials, candidates: list[str]) -> str:
    """The SDP fragment that answers an ICE restart (RFC 9725, section 4.3.3; RFC 8840)."""
    bundled = any(offer.mid in mids for mids in offer.description.bundles)
    accepted = [mid for mid in offer.shared if not _is_extra_channel(offer, mid)]
    lines = ["a=group:BUNDLE " + " ".join(accepted)] if bundled else []
    lines += [
        f"m=video 9 {offer.video.protocol} 0",
        f"a=mid:{offer.mid}",
        f"a=ice-ufrag:{local.ufrag}",
        f"a=ice-pwd:{local.pwd}",
        *ALWAYS,
        *(f"a=candidate:{candidate}" for candidate in candidates),
        "a=end-of-candidates",
    ]
    return sdp.text(lines)


def extensions(offer: Offer) -> Extensions:
    """The header extensions that the viewer offered and this server sends, by their numbers."""
    numbers: dict[str, int] = {}
    for value in offer.video.values("extmap"):
        number, _, uri = value.partition(" ")
        number = number.partition("/")[0]
        if number.isdigit() and 0 < int(number) < 256:
            numbers.setdefault(uri.strip().partition(" ")[0], int(number))
    return Extensions({name: numbers[uri] for name, uri in EXTENSIONS.items() if uri in numbers}, offer.mid)


def feedback(chosen: Sendable) -> list[str]:
    return [f for f in FEEDBACK if f in chosen.feedback]


def _video(offer: Offer, chosen: Sendable, inner: MediaSection, source: MediaSource) -> list[str]:
    rtx = [chosen.rtx] if chosen.rtx else []
    formats = " ".join([chosen.format, *rtx])
    lines = [f"m=video {inner.port} {offer.video.protocol} {formats}"]
    lines += [line for line in inner.lines if line.startswith("c=")]
    lines += [f"a=mid:{offer.mid}", "a=sendonly", "a=rtcp-mux"]
    if offer.video.value("rtcp-rsize") is not None:
        lines.append("a=rtcp-rsize")
    lines += [f"a=extmap:{number} {EXTENSIONS[name]}" for name, number in extensions(offer).numbers.items()]
    lines.append(f"a=rtpmap:{chosen.format} {chosen.name}")
    lines += [f"a=rtcp-fb:{chosen.format} {name}" for name in feedback(chosen)]
    if chosen.parameters:
        lines.append(f"a=fmtp:{chosen.format} {chosen.parameters}")
    for number in rtx:
        lines += [f"a=rtpmap:{number} rtx/90000", f"a=fmtp:{number} apt={chosen.format}"]
        lines.append(f"a=ssrc-group:FID {source.ssrc} {source.rtx_ssrc}")
    lines.append(f"a=msid:{source.stream}")
    for ssrc in [source.ssrc] + ([source.rtx_ssrc] if rtx else []):
        lines += [f"a=ssrc:{ssrc} cname:{source.cname}", f"a=ssrc:{ssrc} msid:{source.stream}"]
    return lines + _transport(inner, ("candidate", "end-of-candidates"))


def _silent(part: MediaSection, video: MediaSection) -> list[str]:
    """An inactive section that stays on the shared transport, whose name may be its mid."""
    format_ = part.formats[0]
    lines = [f"m={part.kind} 9 {part.protocol} {format_}", "c=IN IP4 0.0.0.0"]
    lines += [f"a=mid:{part.mid}", "a=inactive"]
    if part.kind != "application":
        lines += ["a=rtcp-mux", *(f"a=rtpmap:{format_} {name}" for name in part.of_format("rtpmap", format_))]
    return lines + _transport(video)


def _transport(inner: MediaSection, more: tuple[str, ...] = ()) -> list[str]:
    starts = tuple(f"a={name}" for name in (*sdp.TRANSPORT, *more))
    return [line for line in inner.lines if line.startswith(starts)] + list(ALWAYS)


def _is_extra_channel(offer: Offer, mid: str) -> bool:
    part = next(p for p in offer.description.parts if p.mid == mid)
    return part.kind not in ("audio", "video") and part is not offer.data
