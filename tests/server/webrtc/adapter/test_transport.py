"""Hooks for sending and for RTCP. If a new aiortc moves one, a test here names it."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription

from server.webrtc.adapter.addresses import Gatherer, ice_connection
from server.webrtc.adapter.bursts import BurstSender, runs
from server.webrtc.adapter.transport import MediaTransport
from tests.rigs.server.server_rig import answering, until, watcher


@asynccontextmanager
async def sending() -> AsyncIterator[tuple[MediaTransport, list[str], list[bytes], RTCPeerConnection]]:
    """A connected answerer with our transport: its events, the RTCP it received, and the player."""
    async with watcher() as viewer, answering(await viewer.offer()) as pc:
        transceiver = pc.getTransceivers()[0]
        transceiver.direction = "sendonly"
        Gatherer().install(ice_connection(transceiver))
        transport, told, heard = MediaTransport(transceiver), list[str](), list[bytes]()
        transport.install(lambda: told.append("open"), lambda: told.append("close"), heard.append)
        transport.send_rtp(b"\x80" * 20)
        transport.flush()  # nothing happens before DTLS is connected
        await pc.setLocalDescription(await pc.createAnswer())
        await viewer.pc.setRemoteDescription(RTCSessionDescription(pc.localDescription.sdp, "answer"))
        await until(lambda: told, "connection")
        yield transport, told, heard, viewer.pc


async def test_our_sender_starts_and_stops_with_the_connection() -> None:
    async with sending() as (transport, told, _, _):
        assert told == ["open"]
        assert not transport.congested
        assert len(set(transport.source)) == 2
    assert told == ["open", "close"]


async def test_rtp_is_encrypted_and_arrives() -> None:
    async with sending() as (transport, _, _, player):
        ssrc, _ = transport.source
        packets: list[Any] = []
        router = player.getReceivers()[0].transport

        async def hear(packet: Any, arrival_time_ms: int) -> None:
            packets.append(packet)

        player.getReceivers()[0]._handle_rtp_packet = hear  # type: ignore[method-assign]
        header = struct.pack("!BBHII", 0x80, 97, 7, 3000, ssrc)
        await until(lambda: router.state == "connected", "the player's side")
        transport.send_rtp(header + b"payload")
        transport.flush()
        await until(lambda: packets, "packet")
        assert (packets[0].sequence_number, packets[0].timestamp, packets[0].payload) == (7, 3000, b"payload")


async def test_all_rtcp_is_received_unchanged() -> None:
    """aiortc would take TWCC for a list of lost packets, and forget PLI."""
    async with sending() as (_, _, heard, player):
        feedback = struct.pack("!BBHII", 0x8F, 205, 2, 1, 2)
        await player.getReceivers()[0].transport._send_rtp(feedback)
        await until(lambda: feedback in heard, "feedback")


async def test_rtcp_is_encrypted_and_arrives() -> None:
    async with sending() as (transport, _, _, player):
        got: list[bytes] = []
        dtls = player.getReceivers()[0].transport

        async def hear(data: bytes) -> None:
            got.append(data)

        dtls._handle_rtcp_data = hear  # type: ignore[method-assign]
        await until(lambda: dtls.state == "connected", "the player's side")
        report = struct.pack("!BBHI", 0x81, 203, 1, transport.source[0])
        transport.send_rtcp(report)
        await until(lambda: report in got, "report")


# ---- bursts ----


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([5], [[5]]),
        ([9, 9, 9, 4], [[9, 9, 9, 4]]),
        ([9, 4, 9, 9], [[9, 4], [9, 9]]),
        ([4, 9, 9], [[4], [9, 9]]),
        ([9] * 70, [[9] * 32, [9] * 32, [9] * 6]),
    ],
)
def test_a_run_is_of_one_size_but_for_its_end(sizes: list[int], expected: list[list[int]]) -> None:
    """The kernel cuts a run into pieces of the first packet's size."""
    assert [[len(p) for p in run] for run in runs([bytes(size) for size in sizes])] == expected


async def test_a_burst_arrives_as_single_datagrams_in_order() -> None:
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    receiver.settimeout(5)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
    packets = [bytes([n]) * size for n, size in enumerate([1200] * 9 + [300, 1200, 40])]
    try:
        sender = BurstSender()
        sender.send(transport, packets, receiver.getsockname())
        assert [receiver.recv(2000) for _ in packets] == packets
        assert sender.segments == (sys.platform == "linux")
    finally:
        transport.close()
        receiver.close()


async def test_a_kernel_that_refuses_is_not_asked_again() -> None:
    class Socket:
        calls = 0

        def sendmsg(self, *args: object) -> int:
            self.calls += 1
            raise OSError("no such option")

    class Transport:
        _sock = Socket()
        sent = 0

        def is_closing(self) -> bool:
            return False

        def get_write_buffer_size(self) -> int:
            return 0

        def sendto(self, data: bytes, address: tuple[str, int]) -> None:
            self.sent += 1

    sender, transport = BurstSender(), Transport()
    sender.segments = True
    for _ in range(3):
        sender.send(transport, [b"one", b"two"], ("127.0.0.1", 9))
    assert (transport.sent, transport._sock.calls, sender.segments) == (6, 1, False)
