"""Hooks into aiortc 1.16 for sending prepared RTP packets over its DTLS transport and for receiving RTCP.

aiortc's own sender builds every packet again for each viewer, sends without transport-wide numbers, resends
without limit, and reads neither TWCC nor PLI for frames that were encoded elsewhere. So it is bypassed: its
`send` and `stop` start and end our stream, and packets go from here to SRTP and the socket.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiortc import RTCRtpSender, RTCRtpTransceiver

from server.webrtc.adapter.addresses import ice_connection
from server.webrtc.adapter.bursts import BurstSender

WRITE_BUFFER_MAX = 256 * 1024  # bytes that the system or a TCP relay has not accepted yet


class MediaTransport:
    """Call `install` before the answer is created. `on_open` is called once when DTLS is connected,
    `on_close` when the connection ends, `on_rtcp` with each decrypted RTCP packet."""

    def __init__(self, transceiver: RTCRtpTransceiver) -> None:
        self._transceiver = transceiver
        self._sender: RTCRtpSender = transceiver.sender
        self._waiting: list[bytes] = []  # encrypted
        self._srtp: Any = None  # None until DTLS is connected
        self._connection: Any = None
        self._bursts = BurstSender()

    @property
    def source(self) -> tuple[int, int]:
        """SSRC of the video and of its retransmissions (`RTCRtpSender._ssrc`, `._rtx_ssrc`)."""
        return self._sender._ssrc, self._sender._rtx_ssrc

    def install(
        self, on_open: Callable[[], None], on_close: Callable[[], None], on_rtcp: Callable[[bytes], None]
    ) -> None:
        """Replaces `RTCRtpSender.send` and `.stop`, and `RTCDtlsTransport._handle_rtcp_data`."""

        async def send(parameters: object) -> None:
            self._srtp, self._connection = self._dtls._tx_srtp, ice_connection(self._transceiver)
            on_open()

        async def stop() -> None:
            on_close()

        async def handle_rtcp_data(data: bytes) -> None:
            on_rtcp(data)

        self._sender.send = send  # type: ignore[method-assign]
        self._sender.stop = stop  # type: ignore[method-assign]
        self._dtls._handle_rtcp_data = handle_rtcp_data

    def send_rtp(self, packet: bytes) -> None:
        """Encrypts with `RTCDtlsTransport._tx_srtp`. It leaves with the next `flush`."""
        if self._srtp is not None:
            self._waiting.append(self._srtp.protect(packet))

    def flush(self) -> None:
        """Send what `send_rtp` was given."""
        if self._waiting:
            packets, self._waiting = self._waiting, []
            self._send(packets)

    def send_rtcp(self, packet: bytes) -> None:
        self.flush()
        if self._srtp is not None:
            self._send([self._srtp.protect_rtcp(packet)])

    @property
    def congested(self) -> bool:
        """Whether data is queued because the socket is full or a TURN server over TCP is slow."""
        pair = self._connection._nominated.get(1) if self._connection else None
        waiting = getattr(pair.protocol.transport, "get_write_buffer_size", None) if pair else None
        return waiting is not None and waiting() > WRITE_BUFFER_MAX

    def _send(self, packets: list[bytes]) -> None:
        """Send to the pair that ICE chose (`Connection._nominated`). aiortc's own path is a chain of
        coroutines that never wait, at three times the cost."""
        pair = self._connection._nominated.get(1) if self._connection else None
        if pair is not None:
            self._bursts.send(pair.protocol.transport, packets, pair.remote_addr)

    @property
    def _dtls(self) -> Any:
        return self._transceiver.receiver.transport
