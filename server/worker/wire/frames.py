"""Frames: messages in pieces, on two lanes of one connection, so that a large one never delays a small one.

    length (4 bytes, big endian) | flags (1 byte: 1 = bulk lane, 2 = more pieces follow) | that many bytes

The bulk lane, for messages above one piece that are no video, is served only while the urgent one is empty,
piece by piece (see outbox). The lanes share one connection and not two, so that a session's orders keep their
order, and one proof of the key and one loss count for both. Pure: no sockets and no threads.
"""

from __future__ import annotations

from dataclasses import dataclass

PIECE = 1 << 16
HEAD = 5
BULK, MORE = 1, 2
GREETING_BYTES = 1 << 14  # the largest message of a stranger
URGENT_BYTES = 8 << 20  # the largest one of the urgent lane: a keyframe


class NotFrames(Exception):
    """The peer sent more than is allowed, or something that is not a frame."""


@dataclass
class _Lane:
    limit: int
    parts: list[bytes]
    size: int = 0


class Joiner:
    """Reassembles messages from frames. The lanes' limits bound what a peer can make it store; until `trust`
    is called they are those of an unknown peer."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._lanes = (_Lane(GREETING_BYTES, []), _Lane(0, []))

    def trust(self, bulk_bytes: int) -> None:
        """From now on messages of this size may arrive on the bulk lane, and video on the other."""
        self._lanes[0].limit, self._lanes[1].limit = URGENT_BYTES, bulk_bytes

    def feed(self, data: bytes) -> list[bytes]:
        """Add received bytes, and return the messages that they complete. Raises NotFrames."""
        self._buffer += data
        done: list[bytes] = []
        at = 0
        while len(self._buffer) - at >= HEAD:
            size, flags = int.from_bytes(self._buffer[at : at + 4], "big"), self._buffer[at + 4]
            lane = self._lanes[flags & BULK]
            if size > PIECE or lane.size + size > lane.limit or flags > BULK | MORE:
                raise NotFrames
            if len(self._buffer) - at < HEAD + size:
                break
            at += HEAD + size
            lane.parts.append(bytes(self._buffer[at - size : at]))
            lane.size += size
            if not flags & MORE:
                done.append(b"".join(lane.parts))
                lane.parts, lane.size = [], 0
            elif not size:
                raise NotFrames  # endless empty pieces
        del self._buffer[:at]
        return done
