"""Whole frames as they arrive, from private parts of aiortc and aioice.

- `tap` replaces a receiver's jitter buffer. The new one passes on every complete frame, so a recording
  needs no second encoding. It also completes a frame at its RTP marker instead of when the next frame begins;
  otherwise every picture would be one frame late. And it goes on at a keyframe when a packet is lost.
- `count_packets` replaces `RTCRtpReceiver._handle_rtp_packet`, so that nothing is decoded.
- `allow_loopback` lets a machine without a network reach a server on itself: aioice ignores loopback.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import aioice.ice
import av
from aiortc import RTCRtpReceiver, RTCRtpTransceiver
from aiortc.jitterbuffer import JitterBuffer, JitterFrame
from aiortc.rtp import RtpPacket

_CAPACITY = 512  # packets; what aiortc takes for video
GAP_S = 0.7  # a packet that is missing for this long is lost
ASK_S = 0.5  # seconds between requests for a keyframe to continue at
_SEQUENCES = 1 << 16
DECODE_NOT = object()  # what `on_frame` returns for a frame that need not be decoded
HostAddresses = Callable[[bool, bool], list[str]]  # with IPv4, with IPv6


@dataclass(frozen=True)
class EncodedFrame:
    """One complete frame as received. H.264 is in Annex B format."""

    payload_type: int
    rtp_timestamp: int
    data: bytes


@dataclass(frozen=True)
class Picture:
    """One decoded frame. `at_s` is its arrival (time.perf_counter), `rtp_timestamp` its time on the 90 kHz
    clock."""

    frame: av.VideoFrame
    rtp_timestamp: int
    at_s: float


class TappedBuffer(JitterBuffer):
    def __init__(
        self, on_frame: Callable[[EncodedFrame], object], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        super().__init__(capacity=_CAPACITY, is_video=True)
        self._on_frame, self._clock = on_frame, clock
        self._moved_s = self._asked_s = clock()
        self._partial: int | None = None  # RTP timestamp of a frame whose start is lost
        self._skipping = False  # up to the next keyframe

    def add(self, packet: RtpPacket) -> tuple[bool, JitterFrame | None]:
        """aiortc waits for a lost packet until 512 more have arrived: half a minute on a slow link."""
        wanted, frame = super().add(packet)
        now_s = self._clock()
        if frame is not None:
            self._moved_s = now_s
        elif now_s - self._moved_s > GAP_S and self._origin is not None:
            self.remove((packet.sequence_number - self._origin) % _SEQUENCES % self.capacity)
            self._partial, self._skipping, self._moved_s = packet.timestamp, True, now_s
        if self._skipping and now_s - self._asked_s > ASK_S:
            self._asked_s, wanted = now_s, True
        return wanted, frame

    def _remove_frame(self, sequence_number: int) -> JitterFrame | None:
        while packets := self._first_frame():
            if (frame := self._complete(packets)) is not None:
                return frame
        return None

    def _first_frame(self) -> list[RtpPacket]:
        """The packets of the first frame, if it is complete."""
        packets: list[RtpPacket] = []
        for count in range(self.capacity):
            packet = self._packets[((self._origin or 0) + count) % self.capacity]
            if packet is None:
                return []
            if packets and packet.timestamp != packets[0].timestamp:
                return packets  # the marker was lost
            packets.append(packet)
            if packet.marker:
                return packets
        return []

    def _complete(self, packets: list[RtpPacket]) -> JitterFrame | None:
        data = b"".join(packet._data for packet in packets)  # type: ignore[attr-defined]
        self.remove(len(packets))
        first = packets[0]
        if self._skipping:
            self._moved_s = self._clock()
            if first.timestamp == self._partial or not begins(data):
                return None
            self._skipping = False
        if data and self._on_frame(EncodedFrame(first.payload_type, first.timestamp, data)) is DECODE_NOT:
            self._moved_s = self._clock()
            return None
        return JitterFrame(data=data, timestamp=first.timestamp)


def begins(data: bytes) -> bool:
    """Whether a frame can be decoded without earlier ones: H.264 in Annex B, otherwise VP8."""
    if data.startswith(b"\0\0\0\1"):
        return data[4] & 0x1F in (5, 7)
    return data[3:6] == b"\x9d\x01\x2a" and not data[0] & 1


def tap(receiver: RTCRtpReceiver, on_frame: Callable[[EncodedFrame], object]) -> None:
    """Call `on_frame` on the event loop for every complete frame, before it is decoded, or instead of that if
    it returns DECODE_NOT."""
    name = "_RTCRtpReceiver__jitter_buffer"
    if not isinstance(getattr(receiver, name, None), JitterBuffer):
        raise RuntimeError("this aiortc has no jitter buffer where 1.16 has it; install aiortc 1.16")
    setattr(receiver, name, TappedBuffer(on_frame))


def count_packets(receiver: RTCRtpReceiver, on_packet: Callable[[], None]) -> None:
    """Call `on_packet` on the event loop for every RTP packet, and decode nothing."""

    async def handle(packet: RtpPacket, arrival_time_ms: int) -> None:
        on_packet()

    if not hasattr(receiver, "_handle_rtp_packet"):
        raise RuntimeError("this aiortc has no _handle_rtp_packet, as 1.16 has it; install aiortc 1.16")
    receiver._handle_rtp_packet = handle  # type: ignore[method-assign]


def prefer(transceiver: RTCRtpTransceiver, codecs: tuple[str, ...]) -> None:
    """Offer these video codecs only, by name and in this order, with retransmission."""
    known = RTCRtpReceiver.getCapabilities("video")
    by_name = [(c.mimeType.split("/")[1].lower(), c) for c in (known.codecs if known else [])]
    chosen = [c for name in codecs for found, c in by_name if found == name.lower()]
    transceiver.setCodecPreferences(chosen + [c for found, c in by_name if found == "rtx"])


def allow_loopback(own: HostAddresses = aioice.ice.get_host_addresses) -> None:
    """Use 127.0.0.1 if this machine has no other IPv4 address, and ::1 if it has no other IPv6 address: a
    server may be on either. Idempotent."""

    def addresses(use_ipv4: bool, use_ipv6: bool) -> list[str]:
        found = own(use_ipv4, use_ipv6)
        if use_ipv4 and all(":" in address for address in found):
            found.append("127.0.0.1")
        if use_ipv6 and not any(":" in address for address in found):
            found.append("::1")
        return found

    aioice.ice.get_host_addresses = addresses
