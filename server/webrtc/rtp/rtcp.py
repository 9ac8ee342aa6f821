"""RTCP: sender reports, and parsing of feedback (RFC 3550, 4585, REMB, TWCC).

Bytes in, plain data out. Malformed parts are ignored, since they come from the network.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

SENDER_REPORT, RECEIVER_REPORT, DESCRIPTION, BYE = 200, 201, 202, 203
TRANSPORT_FEEDBACK, PAYLOAD_FEEDBACK = 205, 206
NACK, TWCC = 1, 15
PLI, FIR, APPLICATION = 1, 4, 15
NTP_EPOCH_S = 2_208_988_800  # from 1900 to 1970
TICK_S = 0.000_25  # of a TWCC arrival time
REFERENCE_S = 0.064


@dataclass
class ReceiverReport:
    """A receiver's report on one stream. `lost` is the share since its last report, 0 to 1."""

    lost: float
    jitter: int
    last_report: int  # middle 32 bits of the NTP time in the report that it answers; 0: none
    delay_s: float  # time since that report arrived there


@dataclass
class Heard:
    """The parts of one compound packet that concern our stream."""

    reports: list[ReceiverReport] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)  # packets that the receiver requests again
    keyframe: bool = False
    remb_bps: int | None = None
    # TWCC: transport-wide numbers and when they arrived on the receiver's clock; None: not yet
    arrivals: list[tuple[int, float | None]] = field(default_factory=list)


def read(data: bytes, ssrc: int) -> Heard:
    heard = Heard()
    for kind, count, body in _packets(data):
        try:
            if kind in (SENDER_REPORT, RECEIVER_REPORT):
                _reports(heard, body[24 if kind == SENDER_REPORT else 4 :], count, ssrc)
            elif kind == TRANSPORT_FEEDBACK and count == NACK and _media(body) == ssrc:
                _nack(heard, body)
            elif kind == TRANSPORT_FEEDBACK and count == TWCC:
                heard.arrivals += _arrivals(body)
            elif kind == PAYLOAD_FEEDBACK and count == PLI and _media(body) == ssrc:
                heard.keyframe = True
            elif kind == PAYLOAD_FEEDBACK and count == FIR:
                targets = [struct.unpack_from("!I", body, at)[0] for at in range(8, len(body) - 7, 8)]
                heard.keyframe |= ssrc in targets or _media(body) == ssrc
            elif kind == PAYLOAD_FEEDBACK and count == APPLICATION and body[8:12] == b"REMB":
                exponent, mantissa = body[13] >> 2, (body[13] & 3) << 16 | body[14] << 8 | body[15]
                heard.remb_bps = mantissa << exponent
        except (struct.error, IndexError):
            continue
    return heard


def _packets(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    while at + 4 <= len(data):
        first, kind, words = struct.unpack_from("!BBH", data, at)
        end = at + 4 + 4 * words
        if first >> 6 != 2 or end > len(data):
            return
        body = data[at + 4 : end]
        if first & 0x20 and body:
            body = body[: -body[-1]] if 0 < body[-1] <= len(body) else b""
        yield kind, first & 0x1F, body
        at = end


def _media(body: bytes) -> int:
    return int(struct.unpack_from("!I", body, 4)[0])


def _reports(heard: Heard, blocks: bytes, count: int, ssrc: int) -> None:
    for at in range(0, min(24 * count, len(blocks) - 23), 24):
        source, lost, _, jitter, last, delay = struct.unpack_from("!IIIIII", blocks, at)
        if source == ssrc:
            heard.reports.append(ReceiverReport((lost >> 24) / 256, jitter, last, delay / 65536))


def _nack(heard: Heard, body: bytes) -> None:
    for at in range(8, len(body) - 3, 4):
        first, following = struct.unpack_from("!HH", body, at)
        heard.lost.append(first)
        heard.lost += [(first + 1 + i) & 0xFFFF for i in range(16) if following >> i & 1]


def _arrivals(body: bytes) -> list[tuple[int, float | None]]:
    """draft-holmer-rmcat-transport-wide-cc-extensions-01, section 3.1."""
    first, count = struct.unpack_from("!HH", body, 8)
    at_s = int.from_bytes(body[12:15], "big", signed=True) * REFERENCE_S
    at, symbols = 16, list[int]()
    while len(symbols) < count:
        (chunk,) = struct.unpack_from("!H", body, at)
        at += 2
        if not chunk & 0x8000:  # run length
            symbols += [chunk >> 13 & 3] * (chunk & 0x1FFF)
        elif chunk & 0x4000:
            symbols += [chunk >> shift & 3 for shift in range(12, -2, -2)]
        else:
            symbols += [chunk >> shift & 1 for shift in range(13, -1, -1)]
    found: list[tuple[int, float | None]] = []
    for i, symbol in enumerate(symbols[:count]):
        number = (first + i) & 0xFFFF
        if symbol == 1:
            at_s += body[at] * TICK_S
            at += 1
        elif symbol == 2:
            at_s += struct.unpack_from("!h", body, at)[0] * TICK_S
            at += 2
        found.append((number, at_s if symbol in (1, 2) else None))
    return found


def sender_report(
    ssrc: int, now_s: float, timestamp: int, packets: int, octets: int, cname: str
) -> tuple[bytes, int]:
    """The report with the canonical name, and the middle bits of its NTP time, which a receiver repeats in
    its answer. `now_s` is Unix time, `timestamp` the media clock at that time."""
    ntp = int((now_s + NTP_EPOCH_S) * (1 << 32))
    name = cname.encode()[:255]
    item = bytes([1, len(name)]) + name + b"\x00"
    item += bytes(-len(item) % 4)
    report = struct.pack(
        "!BBHIQIII", 0x80, SENDER_REPORT, 6, ssrc, ntp, timestamp, packets & 0xFFFFFFFF, octets & 0xFFFFFFFF
    )
    description = struct.pack("!BBHI", 0x81, DESCRIPTION, 1 + len(item) // 4, ssrc) + item
    return report + description, ntp >> 16 & 0xFFFFFFFF


def bye(ssrc: int) -> bytes:
    return struct.pack("!BBHI", 0x81, BYE, 1, ssrc)
