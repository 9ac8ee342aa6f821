"""Hooks for the handshake. If a new aiortc moves one, a test here names it."""

from __future__ import annotations

import asyncio
import datetime

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.rtcdtlstransport import RTCCertificate
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256

from engine.errors import InvalidInput
from server.webrtc.adapter.addresses import Gatherer, ice_connection
from server.webrtc.adapter.negotiation import accept_rsa, one_fingerprint, parse_sdp
from tests.rigs.server.server_rig import until, watcher


async def test_the_answer_names_one_fingerprint_of_each_part() -> None:
    """libdatachannel takes any fingerprint for SHA-256: with three fingerprints, four in ten handshakes
    failed."""
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    one_fingerprint(pc)
    async with watcher() as viewer:
        await pc.setRemoteDescription(RTCSessionDescription(await viewer.offer(), "offer"))
        answer = (await pc.createAnswer()).sdp
    await pc.close()
    prints = [line for line in answer.splitlines() if line.startswith("a=fingerprint")]
    assert len(prints) == answer.count("m=") == 2
    assert all(line.startswith("a=fingerprint:sha-256 ") for line in prints)


async def test_players_with_an_rsa_certificate_can_shake_hands() -> None:
    """GStreamer's webrtcbin has an RSA certificate, for which aiortc alone offers no cipher suite."""
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
    accept_rsa(rsa)
    accept_rsa(ours)
    Gatherer().install(ice_connection(rsa.addTransceiver("video", direction="recvonly")))
    await rsa.setLocalDescription(await rsa.createOffer())
    await ours.setRemoteDescription(RTCSessionDescription(rsa.localDescription.sdp, "offer"))
    Gatherer().install(ice_connection(ours.getTransceivers()[0]))
    await ours.setLocalDescription(await ours.createAnswer())
    await rsa.setRemoteDescription(RTCSessionDescription(ours.localDescription.sdp, "answer"))
    try:
        await until(lambda: "connected" == rsa.connectionState == ours.connectionState, "connection")
    finally:
        await asyncio.gather(rsa.close(), ours.close())


@pytest.mark.parametrize("text", ["v=0\r\nm=video", "v=0\r\nc=x", "v=0\r\na=setup:"])
def test_whatever_the_sdp_parser_raises_is_invalid_input(text: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be parsed"):
        parse_sdp(text)
