"""Every touch of aiortc's and aioice's private parts, in one place: pinned to aiortc 1.16, one test each.

Each function says which private part it relies on and why the public interface does not do. Nothing here
patches a module or a class: only the objects of one connection. It knows no sessions and no HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Protocol, cast

from aioice import ice
from aiortc import RTCPeerConnection, RTCRtpSender, RTCRtpTransceiver
from aiortc import rtp as aiortc_rtp
from aiortc import sdp as aiortc_sdp
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters, RTCRtpParameters

from engine.errors import InvalidInput

PLAYOUT_DELAY_URI = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"
LOOPBACK = "127.0.0.1"
STUN_FIRST_BYTE_MAX = 3  # RFC 7983
PICTURE_IDS = 1 << 15
SUITES = b":".join(
    b"ECDHE-%s-%s" % (kind, cipher)
    for cipher in (
        b"AES128-GCM-SHA256",
        b"CHACHA20-POLY1305",
        b"AES256-GCM-SHA384",
        b"AES128-SHA",
        b"AES256-SHA",
    )
    for kind in (b"ECDSA", b"RSA")
)


# ---- sending packets that are encoded already ----


class Payloads(NamedTuple):
    """One encoded frame, cut into RTP payloads once for all its viewers."""

    payloads: list[bytes]
    timestamp: int
    keyframe: bool


def packetize(codec: str, data: bytes, picture_id: int) -> list[bytes]:
    """RTP payloads of one frame. Uses aiortc's `Vp8Encoder._packetize`, `H264Encoder._split_bitstream` and
    `._packetize`: the public `pack` numbers pictures per viewer, so its result can't be shared."""
    if codec == "vp8":
        return Vp8Encoder._packetize(data, picture_id % PICTURE_IDS)
    return H264Encoder._packetize(H264Encoder._split_bitstream(data))


class _Shared:
    """Stands where a sender's encoder would: hands on what is packetized already."""

    def pack(self, packet: Payloads) -> tuple[list[bytes], int]:
        return packet.payloads, packet.timestamp


def share_packets(sender: RTCRtpSender) -> None:
    """Let the sender's track give `Payloads` instead of frames. Sets `RTCRtpSender.__encoder`, which the
    sender otherwise makes for itself at the first frame; must be called before it starts."""
    _set(sender, "encoder", _Shared())


def on_keyframe_request(sender: RTCRtpSender, callback: Callable[[], None]) -> None:
    """Hear PLI and FIR. Replaces `RTCRtpSender._send_keyframe`, which only sets a flag for an encoder of
    the sender's own; with packets it would be lost, and a viewer would wait for ever."""
    sender._send_keyframe = callback  # type: ignore[method-assign]


def rtp_offset(sender: RTCRtpSender, last_timestamp: int) -> int:
    """What the sender adds to every timestamp, modulo 2^32, once `last_timestamp` has been sent.

    Reads `RTCRtpSender.__rtp_timestamp`: the random origin itself is a local variable of the sending task."""
    return (int(_get(sender, "rtp_timestamp")) - last_timestamp) % (1 << 32)


class PlayoutDelay(aiortc_rtp.HeaderExtensionsMap):
    """Writes the playout-delay extension, minimum and maximum in units of 10 ms, into every packet."""

    def __init__(self, minimum: int = 0, maximum: int = 0) -> None:
        super().__init__()
        self._id: int | None = None
        self._value = ((minimum & 0xFFF) << 12 | (maximum & 0xFFF)).to_bytes(3, "big")

    def configure(self, parameters: RTCRtpParameters) -> None:
        super().configure(parameters)
        for extension in parameters.headerExtensions:
            if extension.uri == PLAYOUT_DELAY_URI:
                self._id = extension.id

    def set(self, values: aiortc_rtp.HeaderExtensions) -> tuple[int, bytes]:
        profile, data = super().set(values)
        if self._id is None:
            return profile, data
        if profile == 0x1000 or self._id > 14:  # elements with two-byte headers
            return self._long(values)
        return 0xBEDE, data + bytes([self._id << 4 | 2]) + self._value  # four bytes: stays aligned

    def _long(self, values: aiortc_rtp.HeaderExtensions) -> tuple[int, bytes]:
        parts = aiortc_rtp.unpack_header_extensions(*super().set(values))
        assert self._id is not None
        return aiortc_rtp.pack_header_extensions([*parts, (self._id, self._value)])


def low_delay(transceiver: RTCRtpTransceiver, offered: Sequence[RTCRtpHeaderExtensionParameters]) -> bool:
    """Ask the viewer to show frames as they come, if its offer knows how; says whether it does.

    aiortc knows no playout-delay: extends `RTCRtpTransceiver._headerExtensions` (what the answer names) and
    replaces `RTCRtpSender.__rtp_header_extensions_map`. Before createAnswer."""
    known = next((e for e in offered if e.uri == PLAYOUT_DELAY_URI), None)
    if known is None:
        return False
    if all(e.uri != PLAYOUT_DELAY_URI for e in transceiver._headerExtensions):
        transceiver._headerExtensions.append(known)
    _set(transceiver.sender, "rtp_header_extensions_map", PlayoutDelay())
    return True


def choose_codec(transceiver: RTCRtpTransceiver, codec: str) -> None:
    """Keep one codec and its retransmission in the answer. Raises InvalidInput where it was not agreed on.

    Filters `RTCRtpTransceiver._codecs`: setCodecPreferences is read in setRemoteDescription only, and adding
    the transceiver before that breaks offers whose first part is not the video (aiortc stops the transport
    that all parts share)."""
    wanted = f"video/{codec}"
    kept = {c.payloadType for c in transceiver._codecs if c.mimeType.lower() == wanted}
    if not kept:
        raise InvalidInput(f"the offer has no {codec.upper()} that this server can send", field="sdp")
    first = next(c.payloadType for c in transceiver._codecs if c.payloadType in kept)
    transceiver._codecs = [
        c for c in transceiver._codecs if c.payloadType == first or c.parameters.get("apt") == first
    ]


def accept_rsa(pc: RTCPeerConnection) -> None:
    """Shake hands with players whose certificate is RSA (GStreamer's webrtcbin) too. Before the offer is set.

    aiortc names ECDSA suites only; wraps `RTCCertificate._create_ssl_context` of
    `RTCPeerConnection.__certificates`, and adds the same suites for RSA."""
    for certificate in pc._RTCPeerConnection__certificates:  # type: ignore[attr-defined]
        make = certificate._create_ssl_context

        def make_for_both(*args: Any, make: Callable[..., Any] = make, **kwargs: Any) -> Any:
            context = make(*args, **kwargs)
            context.set_cipher_list(SUITES)
            return context

        certificate._create_ssl_context = make_for_both


# ---- offers ----


def parse_sdp(text: str) -> aiortc_sdp.SessionDescription:
    """Raises InvalidInput. `aiortc.sdp` is undocumented; it answers bad input with whatever exception
    happens to come first, so all that a parser may raise are caught here."""
    try:
        return aiortc_sdp.SessionDescription.parse(text)
    except (ValueError, AssertionError, LookupError, AttributeError, TypeError, StopIteration) as error:
        raise InvalidInput(
            f"the SDP cannot be parsed ({type(error).__name__}); send a browser's offer as it is", field="sdp"
        ) from None


# ---- addresses ----


class _Connection(Protocol):
    """The parts of aioice.Connection that are used here."""

    _check_list: list[ice.CandidatePair]
    _protocols: list[ice.StunProtocol]
    get_component_candidates: Callable[..., Awaitable[list[Any]]]


def ice_connection(transceiver: RTCRtpTransceiver) -> _Connection:
    """`RTCIceTransport._connection`, behind the transport that all parts of the connection share."""
    return cast(_Connection, transceiver.receiver.transport.transport._connection)


def own_addresses(connection: _Connection) -> None:
    """On a machine that has nothing but loopback, use that. Before candidates are gathered.

    aioice leaves 127.0.0.1 out and has no setting; wraps `Connection.get_component_candidates`."""
    gather = connection.get_component_candidates

    async def gather_somewhere(component: int, addresses: list[str]) -> list[Any]:
        return await gather(component=component, addresses=addresses or [LOOPBACK])

    connection.get_component_candidates = gather_somewhere


class SourceFilter:
    """Drops datagrams that come from nowhere this connection checks, and remembers when it heard from one.

    `dropped` counts. Addresses of all pairs are let through, not only of the chosen one: Safari sends from
    several. STUN passes always, it is authenticated by its own integrity."""

    def __init__(self, connection: _Connection, clock: Callable[[], float] = time.monotonic) -> None:
        self._connection, self._clock = connection, clock
        self.heard_s = clock()
        self.dropped = 0

    def install(self) -> None:
        """Before candidates are gathered. aioice hands every datagram but STUN to DTLS and RTP, whoever
        sent it: one forged alert from anywhere ends a handshake. Wraps `StunProtocol.datagram_received` of
        each socket once `Connection.get_component_candidates` has made it. Reads `Connection._check_list`."""
        gather = self._connection.get_component_candidates

        async def gather_guarded(*args: Any, **kwargs: Any) -> list[Any]:
            candidates = await gather(*args, **kwargs)
            for protocol in self._connection._protocols:
                self._guard(protocol)
            return candidates

        self._connection.get_component_candidates = gather_guarded

    def _guard(self, protocol: ice.StunProtocol) -> None:
        receive = protocol.datagram_received

        def guarded(data: bytes | str, addr: tuple[Any, ...]) -> None:
            known = self.knows((addr[0], addr[1]))
            if known:
                self.heard_s = self._clock()
            elif not data or cast(bytes, data)[0] > STUN_FIRST_BYTE_MAX:
                self.dropped += 1
                return
            receive(data, addr)

        protocol.datagram_received = guarded  # type: ignore[method-assign]

    def knows(self, address: tuple[str, int]) -> bool:
        return any(pair.remote_addr == address for pair in self._connection._check_list)


def video_transceiver(pc: RTCPeerConnection) -> RTCRtpTransceiver | None:
    """The first one that may carry video to the viewer (`RTCRtpTransceiver._offerDirection`)."""
    for transceiver in pc.getTransceivers():
        if transceiver.kind == "video" and transceiver._offerDirection in ("sendonly", "sendrecv"):
            return transceiver
    return None


def _get(sender: RTCRtpSender, name: str) -> Any:
    return getattr(sender, f"_RTCRtpSender__{name}")


def _set(sender: RTCRtpSender, name: str, value: Any) -> None:
    attribute = f"_RTCRtpSender__{name}"
    if not hasattr(sender, attribute):
        raise RuntimeError(f"this aiortc's sender has no {attribute}: psistream needs aiortc 1.16")
    setattr(sender, attribute, value)
