"""Packs AV1 frames into RTP payloads (RTP Payload Format for AV1 1.0, by AOMedia).

A frame is a temporal unit of OBUs. Its temporal delimiter is omitted, and so are the sizes inside OBUs, since
the payload has its own. Packets of two frames are never mixed.
"""

from __future__ import annotations

from collections.abc import Iterator

CONTINUES, CONTINUED, NEW_SEQUENCE = 0x80, 0x40, 0x08  # Z, Y, N of the aggregation header
SEQUENCE_HEADER, TEMPORAL_DELIMITER, TILE_LIST = 1, 2, 8
HAS_EXTENSION, HAS_SIZE = 0x04, 0x02
COUNTED = 3  # at most so many elements are counted in the header (W); the last one needs no length then
LENGTH_BYTES = 2  # of an element below 16384 bytes
LEAST = 16  # bytes of an OBU for which a packet that is nearly full is not begun


def av1(data: bytes, payload_max: int) -> list[bytes]:
    units = list(obus(data))
    begins = any(unit[0] >> 3 & 15 == SEQUENCE_HEADER for unit in units)
    payloads: list[bytes] = []
    elements: list[bytes] = []
    left, continues = payload_max - 1, False

    def flush(*, continued: bool) -> None:
        nonlocal left, continues
        counted = len(elements) if len(elements) <= COUNTED else 0
        head = counted << 4 | (CONTINUES if continues else 0) | (CONTINUED if continued else 0)
        head |= NEW_SEQUENCE if begins and not payloads else 0
        last = len(elements) - 1
        parts = [e if counted and i == last else leb128(len(e)) + e for i, e in enumerate(elements)]
        payloads.append(bytes([head]) + b"".join(parts))
        elements.clear()
        left, continues = payload_max - 1, continued

    for unit in units:
        if elements and left < LENGTH_BYTES + min(LEAST, len(unit)):
            flush(continued=False)
        rest = unit
        while len(rest) > left - LENGTH_BYTES:
            elements.append(rest[: left - LENGTH_BYTES])
            rest = rest[left - LENGTH_BYTES :]
            flush(continued=True)
        elements.append(rest)
        left -= LENGTH_BYTES + len(rest)
    if elements:
        flush(continued=False)
    return payloads


def obus(data: bytes) -> Iterator[bytes]:
    """The OBUs of a temporal unit that are sent, without their sizes. Stops at malformed data."""
    at = 0
    while at < len(data):
        head = data[at]
        body = at + 1 + bool(head & HAS_EXTENSION)
        size = len(data) - body
        if head & HAS_SIZE:
            size, body_of = read_leb128(data, body)
            header = bytes([head & ~HAS_SIZE]) + data[at + 1 : body]
            body = body_of
        else:
            header = data[at:body]
        if size < 0 or body + size > len(data):
            return
        if head >> 3 & 15 not in (TEMPORAL_DELIMITER, TILE_LIST):
            yield header + data[body : body + size]
        at = body + size


def leb128(value: int) -> bytes:
    parts = bytearray()
    while True:
        parts.append(value & 0x7F | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(parts)


def read_leb128(data: bytes, at: int) -> tuple[int, int]:
    """The value and where it ends; -1 if it is truncated."""
    value = 0
    for i in range(8):
        if at + i >= len(data):
            break
        value |= (data[at + i] & 0x7F) << 7 * i
        if not data[at + i] & 0x80:
            return value, at + i + 1
    return -1, len(data)
