"""One viewer's RTP stream: numbers packets, keeps the latest for retransmission, paces large frames.

It takes packetised frames and passes on complete, unencrypted RTP packets. It knows no connection, no rates
and no sessions. RFC 3550, 8285 (extensions), 4588 (RTX).
"""

from __future__ import annotations

import random
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from server.webrtc.rtp.packetize import Payloads

EXTENSIONS = {  # by the names used in this package
    "mid": "urn:ietf:params:rtp-hdrext:sdes:mid",
    "send_time": "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
    "transport": "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    "playout_delay": "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
}
NO_DELAY = bytes(3)  # minimum and maximum of 0: show frames as they come
HISTORY = 512  # packets that can be resent
RTX_AGE_S = 3.0  # a packet older than this is too late for any player
BURST = 10  # packets of a frame that are sent at once; the rest follows in steps
STEP, STEP_S = 5, 0.005


class Extensions:
    """Prepares the header extensions once, so that each packet only fills in its time and number."""

    def __init__(self, numbers: dict[str, int], mid: str) -> None:
        self.numbers = numbers
        name = mid.encode()
        long = max(numbers.values(), default=0) > 14 or len(name) > 16
        fields = {"send_time": bytes(3), "transport": bytes(2), "mid": name, "playout_delay": NO_DELAY}
        body, self._at = bytearray(), dict[str, int]()
        for field, value in fields.items():
            if number := numbers.get(field):
                body += bytes([number, len(value)] if long else [number << 4 | len(value) - 1])
                self._at[field] = 16 + len(body)
                body += value
        body += bytes(-len(body) % 4)
        profile = 0x1000 if long else 0xBEDE
        self._block = struct.pack("!HH", profile, len(body) // 4) + bytes(body) if body else b""
        self.has_transport = "transport" in self._at

    def header(self, payload_type: int, number: int, timestamp: int, ssrc: int, now_s: float) -> bytearray:
        """The header of a packet, with its extensions."""
        first = 0x90 if self._block else 0x80
        header = bytearray(struct.pack("!BBHII", first, payload_type, number, timestamp, ssrc) + self._block)
        if at := self._at.get("send_time"):
            header[at : at + 3] = (int(now_s * (1 << 18)) & 0xFFFFFF).to_bytes(3, "big")
        return header

    def number(self, header: bytearray, transport_number: int) -> None:
        at = self._at["transport"]
        header[at : at + 2] = transport_number.to_bytes(2, "big")


@dataclass
class _Sent:
    number: int
    timestamp: int
    marker: int
    payload: bytes
    sent_s: float


class RtpStream:
    """`transmit` takes each unencrypted packet; `on_sent` is called for each packet with a transport-wide
    number: the number, its size in bytes and the time it was sent."""

    def __init__(
        self,
        payload_type: int,
        rtx_payload_type: int | None,
        ssrc: int,
        rtx_ssrc: int,
        extensions: Extensions,
        transmit: Callable[[bytes], None],
        clock: Callable[[], float],
        later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self.ssrc, self._rtx_ssrc = ssrc, rtx_ssrc
        self._payload_type, self._rtx_payload_type = payload_type, rtx_payload_type
        self.transmit = transmit
        self._extensions, self._clock, self._later = extensions, clock, later
        self.on_burst: Callable[[], None] = lambda: None  # after some packets: the next come later
        self.on_sent: Callable[[int, int, float], None] = lambda number, size, now_s: None
        self.origin = random.getrandbits(32)  # offset added to every timestamp
        self._number = random.getrandbits(15)
        self._rtx_number = random.getrandbits(15)
        self._transport_number = 0
        self._history: list[_Sent | None] = [None] * HISTORY
        self._waiting: deque[tuple[int, int, bytes]] = deque()  # timestamp, marker, payload
        self.packets = self.octets = self.retransmitted = 0  # octets: of media payloads, as RTCP counts
        self.bytes_sent = 0  # of everything
        self.timestamp, self.sent_s = self.origin, 0.0  # of the latest packet
        self.closed = False

    @property
    def can_repeat(self) -> bool:
        return self._rtx_payload_type is not None

    @property
    def backlog(self) -> int:
        """Packets that wait to be sent."""
        return len(self._waiting)

    def send(self, frame: Payloads) -> None:
        timestamp = (self.origin + frame.timestamp) & 0xFFFFFFFF
        last = len(frame.payloads) - 1
        idle = not self._waiting
        self._waiting.extend((timestamp, int(i == last), p) for i, p in enumerate(frame.payloads))
        if idle:
            self._flush(BURST)

    def _flush(self, count: int) -> None:
        for _ in range(min(count, len(self._waiting))):
            timestamp, marker, payload = self._waiting.popleft()
            now_s = self._clock()
            sent = _Sent(self._number, timestamp, marker, payload, now_s)
            self._history[self._number % HISTORY] = sent
            self._number = (self._number + 1) & 0xFFFF
            self.packets += 1
            self.octets += len(payload)
            self.timestamp, self.sent_s = timestamp, now_s
            self._emit(self._payload_type | marker << 7, sent.number, timestamp, self.ssrc, payload, now_s)
        self.on_burst()
        if self._waiting and not self.closed:
            self._later(STEP_S, lambda: self._flush(STEP))

    def find(self, number: int) -> _Sent | None:
        """A packet that can still be resent in time."""
        sent = self._history[number % HISTORY]
        if sent is None or sent.number != number or self._clock() - sent.sent_s > RTX_AGE_S:
            return None
        return sent

    def latest(self, count: int) -> list[int]:
        """The numbers of the last packets."""
        return [(self._number - 1 - i) & 0xFFFF for i in range(min(count, self.packets, HISTORY))]

    def repeat(self, number: int) -> int:
        """Resend a packet, as RTX if the viewer supports it. Returns its size, 0 if it is gone."""
        sent = self.find(number)
        if sent is None or self.closed:
            return 0
        now_s = self._clock()
        self.retransmitted += 1
        if self._rtx_payload_type is None:
            payload_type = self._payload_type | sent.marker << 7
            return self._emit(payload_type, sent.number, sent.timestamp, self.ssrc, sent.payload, now_s)
        rtx, self._rtx_number = self._rtx_number, (self._rtx_number + 1) & 0xFFFF
        payload_type = self._rtx_payload_type | sent.marker << 7
        payload = sent.number.to_bytes(2, "big") + sent.payload
        return self._emit(payload_type, rtx, sent.timestamp, self._rtx_ssrc, payload, now_s)

    def drop_waiting(self) -> None:
        self._waiting.clear()

    def close(self) -> None:
        self.closed = True
        self._waiting.clear()

    def _emit(
        self, payload_type: int, number: int, timestamp: int, ssrc: int, payload: bytes, now_s: float
    ) -> int:
        header = self._extensions.header(payload_type, number, timestamp, ssrc, now_s)
        size = len(header) + len(payload)
        if self._extensions.has_transport:
            transport_number, self._transport_number = (
                self._transport_number,
                (self._transport_number + 1) & 0xFFFF,
            )
            self._extensions.number(header, transport_number)
            self.on_sent(transport_number, size, now_s)
        self.bytes_sent += size
        self.transmit(bytes(header) + payload)
        return size
