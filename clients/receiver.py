"""The only client module that touches private parts of aiortc and aioice (pinned to 1.16 in pyproject).

- `tap` replaces a receiver's jitter buffer. The new one passes on every complete frame, so a recording
  needs no second encoding. It also completes a frame at its RTP marker instead of when the next frame begins;
  otherwise every picture would be one frame late.
- `allow_loopback` lets a machine without a network reach a server on itself: aioice ignores 127.0.0.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import aioice.ice
from aiortc import RTCRtpReceiver
from aiortc.jitterbuffer import JitterBuffer, JitterFrame
from aiortc.rtp import RtpPacket

_CAPACITY = 512  # packets; what aiortc takes for video
_get_host_addresses = aioice.ice.get_host_addresses


@dataclass(frozen=True)
class EncodedFrame:
    """One complete frame as received. H.264 is in Annex B format."""

    payload_type: int
    rtp_timestamp: int
    data: bytes


class _TappedBuffer(JitterBuffer):
    def __init__(self, on_frame: Callable[[EncodedFrame], None]) -> None:
        super().__init__(capacity=_CAPACITY, is_video=True)
        self._on_frame = on_frame

    def _remove_frame(self, sequence_number: int) -> JitterFrame | None:
        packets: list[RtpPacket] = []
        for count in range(self.capacity):
            packet = self._packets[((self._origin or 0) + count) % self.capacity]
            if packet is None:
                return None
            if packets and packet.timestamp != packets[0].timestamp:
                return self._complete(packets)  # the marker was lost
            packets.append(packet)
            if packet.marker:
                return self._complete(packets)
        return None

    def _complete(self, packets: list[RtpPacket]) -> JitterFrame:
        data = b"".join(packet._data for packet in packets)  # type: ignore[attr-defined]
        self.remove(len(packets))
        first = packets[0]
        if data:
            self._on_frame(EncodedFrame(first.payload_type, first.timestamp, data))
        return JitterFrame(data=data, timestamp=first.timestamp)


def tap(receiver: RTCRtpReceiver, on_frame: Callable[[EncodedFrame], None]) -> None:
    """Call `on_frame` on the event loop for every complete frame, before it is decoded."""
    name = "_RTCRtpReceiver__jitter_buffer"
    if not isinstance(getattr(receiver, name, None), JitterBuffer):
        raise RuntimeError("this aiortc has no jitter buffer where 1.16 has it; install aiortc 1.16")
    setattr(receiver, name, _TappedBuffer(on_frame))


def allow_loopback() -> None:
    """Use 127.0.0.1 if this machine has no other address. Idempotent."""

    def addresses(use_ipv4: bool, use_ipv6: bool) -> list[str]:
        return _get_host_addresses(use_ipv4, use_ipv6) or (["127.0.0.1"] if use_ipv4 else [])

    aioice.ice.get_host_addresses = addresses
