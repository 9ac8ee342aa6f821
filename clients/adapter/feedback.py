"""Transport-wide feedback (TWCC) from this viewer, so that the server sees its link as it sees a browser's.

aiortc does not support TWCC. This module uses private members of aiortc 1.16:
`RTCDtlsTransport._handle_rtp_data`, to note when each packet arrived, and `._send_rtp`, to report it. See
draft-holmer-rmcat-transport-wide-cc-extensions-01.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import Iterator
from typing import Any

from aiortc import RTCRtpReceiver

URI = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
NUMBER = 11  # of the extension in our offers; aiortc's own take 1 to 3
EVERY_S = 0.1
TICK_S, REFERENCE_S = 0.000_25, 0.064
MOST = 400  # packets in one feedback
_RANGE = 1 << 16


def with_feedback(offer: str) -> str:
    """The offer, with TWCC for every video codec in it."""
    lines: list[str] = []
    video = False
    for line in offer.splitlines():
        if line.startswith("m="):
            video = line.startswith("m=video")
        lines.append(line)
        if video and line.startswith("a=mid:"):
            lines.append(f"a=extmap:{NUMBER} {URI}")
        number, _, name = line.removeprefix("a=rtpmap:").partition(" ")
        if video and line.startswith("a=rtpmap:") and not name.startswith("rtx/"):
            lines.append(f"a=rtcp-fb:{number} transport-cc")
    return "\r\n".join(lines) + "\r\n"


class Feedback:
    """Start `run` before connecting; it runs until it is cancelled."""

    def __init__(self, receiver: RTCRtpReceiver) -> None:
        self._transport: Any = receiver.transport
        self._arrived: dict[int, float] = {}
        self._media_ssrc = self._count = 0
        self._next: int | None = None  # the first number that was not reported yet

    def _install(self) -> None:
        handle = self._transport._handle_rtp_data

        async def noted(data: bytes, arrival_time_ms: int) -> None:
            if (number := transport_number(data)) is not None:
                self._arrived[number] = time.monotonic()
                self._media_ssrc = self._media_ssrc or int.from_bytes(data[8:12], "big")
            await handle(data, arrival_time_ms=arrival_time_ms)

        self._transport._handle_rtp_data = noted

    async def run(self) -> None:
        """Runs until the connection is lost, which other code notices."""
        self._install()
        with contextlib.suppress(ConnectionError):
            while True:
                await asyncio.sleep(EVERY_S)
                if self._arrived and self._transport.state == "connected":
                    arrived, self._arrived = self._arrived, {}
                    await self._transport._send_rtp(self._packet(arrived))

    def _packet(self, arrived: dict[int, float]) -> bytes:
        start = self._next if self._next is not None else next(iter(arrived))
        # packets that arrived after they were reported lost are left out
        ahead = sorted((n - start) % _RANGE for n in arrived if (n - start) % _RANGE < _RANGE // 2)
        if not ahead:
            ahead = [0]
        last = min(ahead[-1], MOST - 1)
        self._next = (start + last + 1) % _RANGE
        times = {offset: arrived.get((start + offset) % _RANGE) for offset in range(last + 1)}
        self._count = (self._count + 1) % 256
        return packet(1, self._media_ssrc, start, list(times.values()), self._count)


def transport_number(rtp: bytes) -> int | None:
    """The transport-wide number, from header extensions with one-byte headers (RFC 8285)."""
    if len(rtp) < 16 or not rtp[0] & 0x10:
        return None
    at = 12 + 4 * (rtp[0] & 0x0F)
    profile, words = struct.unpack_from("!HH", rtp, at)
    at, end = at + 4, at + 4 + 4 * words
    while profile == 0xBEDE and at < min(end, len(rtp) - 2):
        number, size = rtp[at] >> 4, (rtp[at] & 0x0F) + 1
        if rtp[at] == 0:
            at += 1
        elif number == NUMBER:
            return int(struct.unpack_from("!H", rtp, at + 1)[0])
        else:
            at += 1 + size
    return None


def packet(ssrc: int, media_ssrc: int, first: int, times: list[float | None], count: int) -> bytes:
    """A feedback packet. `times`: when each packet from `first` on arrived, in seconds; None: not yet."""
    known = next((at_s for at_s in times if at_s is not None), 0.0)
    reference = int(known / REFERENCE_S)
    symbols, deltas = [0] * len(times), b""
    now = round(reference * REFERENCE_S / TICK_S)
    for i, at_s in enumerate(times):
        if at_s is None:
            continue
        delta = max(-32768, min(32767, round(at_s / TICK_S) - now))
        now += delta
        symbols[i] = 1 if 0 <= delta < 256 else 2
        deltas += struct.pack("!B" if symbols[i] == 1 else "!h", delta)
    body = struct.pack("!IIHH", ssrc, media_ssrc, first, len(times))
    body += (reference & 0xFFFFFF).to_bytes(3, "big") + bytes([count])
    body += b"".join(_chunks(symbols)) + deltas
    body += bytes(-len(body) % 4)
    return struct.pack("!BBH", 0x8F, 205, len(body) // 4) + body


def _chunks(symbols: list[int]) -> Iterator[bytes]:
    for start in range(0, len(symbols), 7):
        value = 0xC000
        for i, symbol in enumerate(symbols[start : start + 7]):
            value |= symbol << (12 - 2 * i)
        yield value.to_bytes(2, "big")
