"""Packs VP9 frames into RTP payloads (RFC 9628), for one spatial and one temporal layer, in non-flexible
mode.

Each frame refers to the previous one; the scalability structure in each keyframe says so.
"""

from __future__ import annotations

PICTURE_IDS = 1 << 15
HAS_ID, PREDICTED, BEGINS, ENDS, HAS_STRUCTURE = 0x80, 0x40, 0x08, 0x04, 0x02
ONE_LAYER = 0x18  # no more spatial layers, sizes (Y) and a picture group (G) follow
GROUP = bytes([1, 0x04, 1])  # one picture: temporal layer 0, one reference, to the picture before
SYNC = b"\x49\x83\x42"


def vp9(data: bytes, picture_id: int, payload_max: int) -> list[bytes]:
    """`picture_id` is the previous frame's plus one, unless this is a keyframe."""
    size = keyframe_size(data)
    number = (0x8000 | picture_id % PICTURE_IDS).to_bytes(2, "big")
    structure = b""
    if size is not None:
        structure = bytes([ONE_LAYER]) + b"".join(side.to_bytes(2, "big") for side in size) + GROUP
    flags = HAS_ID | (0 if size is not None else PREDICTED)
    payloads: list[bytes] = []
    start = 0
    while start < len(data) or not payloads:
        more = structure if start == 0 else b""
        end = start + payload_max - 3 - len(more)
        first = flags | (BEGINS if start == 0 else 0) | (ENDS if end >= len(data) else 0)
        payloads.append(bytes([first | (HAS_STRUCTURE if more else 0)]) + number + more + data[start:end])
        start = end
    return payloads


def keyframe_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in the header of a keyframe; None for any other frame.

    VP9's uncompressed header, 6.2: two bits of marker, the profile, then whether an old frame is shown again,
    the frame's type (0: key), two flags; then the sync code, the colour and both sides less one."""
    if len(data) < 10 or data[0] >> 6 != 2:
        return None
    bits = int.from_bytes(data[:16].ljust(16, b"\0"), "big")
    at = 2

    def take(count: int) -> int:
        nonlocal at
        at += count
        return bits >> (128 - at) & (1 << count) - 1

    profile = take(1) | take(1) << 1
    if profile == 3:
        take(1)
    if take(1) or take(1):  # an old frame again; not a keyframe
        return None
    take(2)
    if take(24) != int.from_bytes(SYNC, "big"):
        return None
    if profile >= 2:
        take(1)
    if take(3) != 7:  # colour space; 7 is RGB
        take(1)
        if profile in (1, 3):
            take(3)
    elif profile in (1, 3):
        take(1)
    return take(16) + 1, take(16) + 1
