"""Each touch of aiortc's and aioice's private parts: if a new version moves one, a test here says which."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import aioice
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.codecs.h264 import H264Encoder, h264_depayload
from aiortc.codecs.vpx import vp8_depayload
from aiortc.rtcdtlstransport import RTCCertificate
from aiortc.rtcrtpparameters import (
    RTCRtpCodecParameters,
    RTCRtpHeaderExtensionParameters,
    RTCRtpSendParameters,
)
from aiortc.rtp import (
    RTCP_PSFB_FIR,
    RTCP_PSFB_PLI,
    HeaderExtensions,
    RtcpPsfbPacket,
    RtpPacket,
    unpack_header_extensions,
)
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256

from engine.errors import InvalidInput
from server.webrtc import adapter
from server.webrtc.adapter import LOOPBACK, PLAYOUT_DELAY_URI, Payloads, PlayoutDelay, SourceFilter
from server.webrtc.fanout import PacketTrack
from server.webrtc.offer import read_offer
from tests.rigs.server_rig import until, watcher

VP8 = RTCRtpCodecParameters(mimeType="video/VP8", clockRate=90000, payloadType=97)
MID = RTCRtpHeaderExtensionParameters(id=1, uri="urn:ietf:params:rtp-hdrext:sdes:mid")
DELAY = RTCRtpHeaderExtensionParameters(id=5, uri=PLAYOUT_DELAY_URI)


class Wire:
    """A transport that keeps what is sent."""

    state = "connected"
    _stats_id = "wire"

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    async def _send_rtp(self, data: bytes) -> None:
        self.sent.append(data)

    def _register_rtp_sender(self, *args: object) -> None: ...

    def _unregister_rtp_sender(self, *args: object) -> None: ...

    def packets(self) -> list[RtpPacket]:
        return [RtpPacket.parse(data) for data in self.sent if not 192 <= data[1] <= 208]


@asynccontextmanager
async def sending(
    *extensions: RTCRtpHeaderExtensionParameters, delay: bool = False
) -> AsyncIterator[tuple[RTCRtpSender, PacketTrack, Wire]]:
    """A sender that is equipped as a viewer's is."""
    wire = Wire()
    track = PacketTrack(on_start=lambda: None, on_starved=lambda: None)
    sender = RTCRtpSender(track, cast(Any, wire))
    adapter.share_packets(sender)
    if delay:
        adapter.low_delay(cast(Any, SimpleNamespace(sender=sender, _headerExtensions=[])), [DELAY])
    parameters = RTCRtpSendParameters(codecs=[VP8], headerExtensions=list(extensions))
    await sender.send(parameters)
    yield sender, track, wire
    await sender.stop()


async def test_a_sender_takes_packets_that_are_cut_already() -> None:
    async with sending() as (_, track, wire):
        track.offer(Payloads([b"one", b"two"], 3000, True))
        track.offer(Payloads([b"three"], 8625, False))
        await until(lambda: len(wire.packets()) == 3, "third packet")
        packets = wire.packets()
        assert [p.payload for p in packets] == [b"one", b"two", b"three"]
        assert [p.marker for p in packets] == [0, 1, 1]
        assert (packets[2].timestamp - packets[0].timestamp) % 2**32 == 5625


async def test_the_rtp_offset_is_what_the_sender_adds_to_timestamps() -> None:
    async with sending() as (sender, track, wire):
        told: list[int] = []
        track.on_sent = lambda timestamp: told.append(adapter.rtp_offset(sender, timestamp))
        track.offer(Payloads([b"one"], 3000, True))
        await until(lambda: told, "first frame")
        assert (told[0] + 3000) % 2**32 == wire.packets()[0].timestamp


@pytest.mark.parametrize("fmt", [RTCP_PSFB_PLI, RTCP_PSFB_FIR])
async def test_requests_for_a_keyframe_are_heard(fmt: int) -> None:
    """With packets aiortc would only set a flag, and the viewer would see nothing until the next keyframe."""
    async with sending() as (sender, _, _):
        asked: list[bool] = []
        adapter.on_keyframe_request(sender, lambda: asked.append(True))
        await sender._handle_rtcp_packet(RtcpPsfbPacket(fmt=fmt, ssrc=1, media_ssrc=sender._ssrc))
        assert asked == [True]


async def test_every_packet_asks_for_no_playout_delay() -> None:
    async with sending(MID, DELAY, delay=True) as (_, track, wire):
        track.offer(Payloads([b"one", b"two"], 0, True))
        await until(lambda: len(wire.packets()) == 2, "second packet")
        for data in wire.sent:
            if not 192 <= data[1] <= 208:
                profile, length = int.from_bytes(data[12:14], "big"), 4 * int.from_bytes(data[14:16], "big")
                elements = dict(unpack_header_extensions(profile, data[16 : 16 + length]))
                assert elements[5] == b"\x00\x00\x00"
                assert data[16 + length :] in (b"one", b"two")


@pytest.mark.parametrize("number", [5, 14, 15, 200])
@pytest.mark.parametrize("mid", [None, "0", "a-mid-that-needs-a-long-header"])
def test_the_playout_delay_stands_beside_the_other_extensions(number: int, mid: str | None) -> None:
    extensions = PlayoutDelay(minimum=1, maximum=10)
    delay = RTCRtpHeaderExtensionParameters(id=number, uri=PLAYOUT_DELAY_URI)
    extensions.configure(RTCRtpSendParameters(headerExtensions=[MID, delay]))
    profile, data = extensions.set(HeaderExtensions(mid=mid))
    elements = dict(unpack_header_extensions(profile, data))
    assert elements[number] == bytes([0, 0x10, 0x0A])
    assert elements.get(1) == (mid.encode() if mid else None)
    assert len(data) % 4 == 0


def test_who_does_not_know_the_playout_delay_does_not_get_it() -> None:
    extensions = PlayoutDelay()
    extensions.configure(RTCRtpSendParameters(headerExtensions=[MID]))
    _, data = extensions.set(HeaderExtensions(mid="0"))
    assert dict(unpack_header_extensions(0xBEDE, data)) == {1: b"0"}


def test_vp8_payloads_share_one_picture_id() -> None:
    frame = bytes(range(256)) * 12
    payloads = adapter.packetize("vp8", frame, 70_001)
    assert len(payloads) == 3
    assert b"".join(vp8_depayload(p) for p in payloads) == frame
    assert len({p[2:4] for p in payloads}) == 1
    assert all(len(p) <= 1300 for p in payloads)


def test_h264_payloads_are_those_of_aiortc() -> None:
    stream = b"\x00\x00\x00\x01\x67\x42" + b"\x00\x00\x00\x01\x68\xce" + b"\x00\x00\x01\x65" + b"\x88" * 3000
    payloads = adapter.packetize("h264", stream, 0)
    assert payloads == H264Encoder._packetize(H264Encoder._split_bitstream(stream))
    assert b"".join(h264_depayload(p) for p in payloads).count(b"\x88") == 3000


# ---- negotiation ----


@asynccontextmanager
async def answering(offer: str) -> AsyncIterator[RTCPeerConnection]:
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    try:
        await pc.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        yield pc
    finally:
        await pc.close()


async def test_the_answer_keeps_one_codec_and_its_retransmission() -> None:
    async with watcher() as viewer, answering(read_offer((await viewer.offer()).encode()).sdp) as pc:
        transceiver = adapter.video_transceiver(pc)
        assert transceiver is not None
        adapter.choose_codec(transceiver, "h264")
        sdp = (await pc.createAnswer()).sdp
        assert "H264/90000" in sdp
        assert "rtx/90000" in sdp
        assert "VP8" not in sdp


async def test_a_codec_that_was_not_offered_cannot_be_chosen() -> None:
    async with (
        watcher(codecs=("vp8",)) as viewer,
        answering(read_offer((await viewer.offer()).encode()).sdp) as pc,
    ):
        transceiver = adapter.video_transceiver(pc)
        assert transceiver is not None
        with pytest.raises(InvalidInput, match="H264"):
            adapter.choose_codec(transceiver, "h264")


async def test_the_answer_names_the_playout_delay_if_the_offer_did() -> None:
    async with watcher() as viewer:
        sdp = await viewer.offer()
    extension = f"a=extmap:9 {PLAYOUT_DELAY_URI}\r\n"
    offer = read_offer(sdp.replace("a=recvonly\r\n", f"a=recvonly\r\n{extension}", 1).encode())
    async with answering(offer.sdp) as pc:
        transceiver = adapter.video_transceiver(pc)
        assert transceiver is not None
        assert adapter.low_delay(transceiver, offer.extensions)
        assert extension in (await pc.createAnswer()).sdp
    async with answering(read_offer(sdp.encode()).sdp) as pc:
        transceiver = adapter.video_transceiver(pc)
        assert transceiver is not None
        assert not adapter.low_delay(transceiver, ())


async def test_the_video_part_that_receives_is_found_among_others() -> None:
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    pc.addTransceiver("audio", direction="recvonly")
    pc.addTransceiver("video", direction="sendonly")
    pc.addTransceiver("video", direction="recvonly")
    sdp = (await pc.createOffer()).sdp
    await pc.setLocalDescription(RTCSessionDescription(sdp, "offer"))
    async with answering(read_offer(pc.localDescription.sdp.encode()).sdp) as other:
        found = adapter.video_transceiver(other)
        assert found is not None
        assert found.mid == "2"
    await pc.close()


async def test_players_with_an_rsa_certificate_can_shake_hands() -> None:
    """GStreamer's webrtcbin has one; aiortc alone offers it no suite."""
    rsa, ours = (
        RTCPeerConnection(RTCConfiguration(iceServers=[])),
        RTCPeerConnection(RTCConfiguration(iceServers=[])),
    )
    private = generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "player")])
    start = datetime.datetime.now(tz=datetime.UTC) - datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(
        name, name, private.public_key(), 1, start, start + datetime.timedelta(9)
    )
    certificate = RTCCertificate(private, builder.sign(private, SHA256()))  # type: ignore[arg-type]
    rsa._RTCPeerConnection__certificates = [certificate]  # type: ignore[attr-defined]
    adapter.accept_rsa(rsa)
    adapter.accept_rsa(ours)
    adapter.own_addresses(adapter.ice_connection(rsa.addTransceiver("video", direction="recvonly")))
    await rsa.setLocalDescription(await rsa.createOffer())
    await ours.setRemoteDescription(RTCSessionDescription(rsa.localDescription.sdp, "offer"))
    adapter.own_addresses(adapter.ice_connection(ours.getTransceivers()[0]))
    await ours.setLocalDescription(await ours.createAnswer())
    await rsa.setRemoteDescription(RTCSessionDescription(ours.localDescription.sdp, "answer"))
    try:
        await until(lambda: "connected" == rsa.connectionState == ours.connectionState, "connection")
    finally:
        await asyncio.gather(rsa.close(), ours.close())


@pytest.mark.parametrize("text", ["v=0\r\nm=video", "v=0\r\nc=x", "v=0\r\na=setup:"])
def test_whatever_the_sdp_parser_raises_is_invalid_input(text: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be parsed"):
        adapter.parse_sdp(text)


# ---- addresses ----


@asynccontextmanager
async def gathered(*addresses: str) -> AsyncIterator[tuple[aioice.Connection, SourceFilter]]:
    """An ICE agent on a machine that has these addresses besides loopback."""
    connection = aioice.Connection(ice_controlling=False)
    adapter.own_addresses(cast(Any, connection))
    source = SourceFilter(cast(Any, connection), clock=lambda: 5.0)
    source.install()
    await connection.get_component_candidates(component=1, addresses=list(addresses))
    try:
        yield connection, source
    finally:
        await connection.close()


async def test_a_machine_with_loopback_only_uses_it() -> None:
    async with gathered() as (connection, _):
        assert [p.local_candidate.host for p in connection._protocols] == [LOOPBACK]


async def test_a_machine_with_an_address_does_not_offer_loopback() -> None:
    async with gathered("127.0.0.2") as (connection, _):
        assert [p.local_candidate.host for p in connection._protocols] == ["127.0.0.2"]


async def test_datagrams_from_strangers_are_dropped_unless_they_are_stun() -> None:
    """One forged DTLS alert from anywhere used to end a handshake; a flood used to stop the video."""
    async with gathered() as (connection, source):
        heard: list[bytes] = []
        connection.data_received = lambda data, component: heard.append(data)  # type: ignore[method-assign]
        friend = aioice.Candidate("1", 1, "udp", 1, LOOPBACK, 5000, "host")
        connection._add_remote_candidate(friend, LOOPBACK)
        protocol = connection._protocols[0]
        connection._check_list.append(aioice.ice.CandidatePair(protocol, friend))
        alert = bytes([21, 254, 253])
        source.heard_s = 0.0
        for data in (alert, bytes([22]), bytes([128, 97]), b""):
            protocol.datagram_received(data, (LOOPBACK, 6000))
        assert (heard, source.dropped, source.heard_s) == ([], 4, 0.0)
        protocol.datagram_received(alert, (LOOPBACK, 5000))
        assert (heard, source.dropped, source.heard_s) == ([alert], 4, 5.0)
        protocol.datagram_received(b"\x00\x01 not quite stun", (LOOPBACK, 6000))
        assert source.dropped == 4


async def test_an_off_path_attacker_cannot_end_a_handshake() -> None:
    """The same against two real connections: alerts from a third socket while they shake hands."""
    async with watcher() as viewer, answering(read_offer((await viewer.offer()).encode()).sdp) as pc:
        transceiver = adapter.video_transceiver(pc)
        assert transceiver is not None
        connection = adapter.ice_connection(transceiver)
        adapter.own_addresses(connection)
        source = SourceFilter(connection)
        source.install()
        await pc.setLocalDescription(await pc.createAnswer())
        ports = [(c.host, c.port) for p in connection._protocols for c in [p.local_candidate]]
        stop = asyncio.Event()

        async def attack() -> None:
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, family=2)
            while not stop.is_set():
                for port in ports:
                    if ":" not in port[0]:
                        transport.sendto(bytes([21, 254, 253, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 2, 40]), port)
                await asyncio.sleep(0.001)
            transport.close()

        attacker = asyncio.get_running_loop().create_task(attack())
        await asyncio.sleep(0.01)
        await viewer.pc.setRemoteDescription(RTCSessionDescription(pc.localDescription.sdp, "answer"))
        await until(lambda: pc.connectionState == "connected", "connection in spite of the attacker")
        stop.set()
        await attacker
        assert source.dropped > 0
