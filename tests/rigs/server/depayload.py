"""A receiver's parser for RTP payloads of VP9 and AV1, written from the specifications alone."""

from __future__ import annotations

from typing import NamedTuple


class Vp9(NamedTuple):
    """One payload: the fields of its descriptor, and the rest. `size` and `group` belong to the scalability
    structure, if there is one."""

    picture_id: int
    predicted: bool
    begins: bool
    ends: bool
    size: tuple[int, int] | None
    group: list[tuple[int, ...]] | None
    data: bytes


def vp9(payload: bytes) -> Vp9:
    """RFC 9628, section 4.2. Raises AssertionError for features that the server does not use: layers,
    flexible mode."""
    flags, at = payload[0], 1
    assert flags & 0x80, "no picture id"
    assert not flags & 0x30, "layers, or flexible mode"
    assert payload[1] & 0x80, "a short picture id"
    picture_id = (payload[1] & 0x7F) << 8 | payload[2]
    at = 3
    size = group = None
    if flags & 0x02:
        structure = payload[at]
        at += 1
        assert structure >> 5 == 0, "spatial layers"
        if structure & 0x10:
            size = (
                int.from_bytes(payload[at : at + 2], "big"),
                int.from_bytes(payload[at + 2 : at + 4], "big"),
            )
            at += 4
        if structure & 0x08:
            count = payload[at]
            at += 1
            group = []
            for _ in range(count):
                references = payload[at] >> 2 & 3
                group.append(tuple(payload[at + 1 : at + 1 + references]))
                at += 1 + references
    return Vp9(
        picture_id, bool(flags & 0x40), bool(flags & 0x08), bool(flags & 0x04), size, group, payload[at:]
    )


class Av1(NamedTuple):
    new_sequence: bool
    obus: list[bytes]  # without sizes


def av1(payloads: list[bytes]) -> Av1:
    """The OBUs of one frame (RTP Payload Format for AV1, section 4.4)."""
    obus: list[bytes] = []
    open_ended = False
    for index, payload in enumerate(payloads):
        head, at, elements = payload[0], 1, list[bytes]()
        count = head >> 4 & 3
        assert bool(head & 0x80) == open_ended, "Z does not continue Y"
        assert not (head & 0x08 and index), "N beyond the first packet"
        while at < len(payload):
            last = count and len(elements) == count - 1
            length = len(payload) - at
            if not last:
                length, shift = 0, 0
                while True:
                    byte = payload[at]
                    at += 1
                    length |= (byte & 0x7F) << shift
                    shift += 7
                    if not byte & 0x80:
                        break
            assert 0 < length <= len(payload) - at, "an element is longer than its packet"
            elements.append(payload[at : at + length])
            at += length
        assert not count or len(elements) == count
        if open_ended:
            obus[-1] += elements.pop(0)
        obus += elements
        open_ended = bool(head & 0x40)
    assert not open_ended, "the last OBU does not end"
    assert all(not obu[0] & 0x02 for obu in obus), "an OBU with a size of its own"
    return Av1(bool(payloads[0][0] & 0x08), obus)


def temporal_unit(obus: list[bytes]) -> bytes:
    """A stream that decoders accept: with a temporal delimiter, and with sizes."""
    parts = [b"\x12\x00"]
    for obu in obus:
        head = 2 if obu[0] & 0x04 else 1
        size, body = len(obu) - head, b""
        while size > 0x7F:
            body += bytes([size & 0x7F | 0x80])
            size >>= 7
        body += bytes([size])
        parts.append(bytes([obu[0] | 0x02]) + obu[1:head] + body + obu[head:])
    return b"".join(parts)
