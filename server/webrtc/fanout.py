"""One encoded stream, many viewers: a bounded queue per viewer, and nobody waits for anybody.

Overflow drops what is queued and goes on at the next keyframe; drops are counted. It runs on the event loop
and knows neither sessions' contents nor connections.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from server.webrtc.adapter import Payloads, packetize
from server.worker.messages import Packet

QUEUE = 8  # frames


class PacketTrack(MediaStreamTrack):
    """What a viewer's sender reads. Begins at a keyframe, and at one again whenever it had to drop.

    `offer` never waits. `on_start` is called when the sender reads for the first time: from then on the
    viewer counts. `on_starved` is called when a keyframe is needed to go on, `on_sent` once, with the
    timestamp of the first frame when it has left."""

    kind = "video"

    def __init__(self, on_start: Callable[[], None], on_starved: Callable[[], None]) -> None:
        super().__init__()
        self._on_start, self._on_starved = on_start, on_starved
        self.on_sent: Callable[[int], None] = lambda timestamp: None
        self._queue: deque[Payloads] = deque()
        self._filled = asyncio.Event()
        self._started = False
        self._timestamp = 0  # of the frame that was read last
        self.waiting = True  # for a keyframe
        self.sent = self.dropped = 0

    def offer(self, packet: Payloads) -> None:
        if self.waiting and not packet.keyframe:
            if self.sent or self._queue:
                self.dropped += 1
            return
        if len(self._queue) >= QUEUE:
            self.dropped += len(self._queue)
            self._queue.clear()
            if not packet.keyframe:
                self.dropped += 1
                self.waiting = True
                self._on_starved()
                return
        self.waiting = False
        self._queue.append(packet)
        self._filled.set()

    async def recv(self) -> Payloads:  # type: ignore[override]
        """aiortc's tracks give frames; the sender's packer (adapter.share_packets) takes ours instead."""
        if not self._started:
            self._started = True
            self._on_start()
        elif self.sent == 1:  # the sender comes back when it has sent what it got
            self.on_sent(self._timestamp)
        while not self._queue:
            if self.readyState != "live":
                raise MediaStreamError
            self._filled.clear()
            await self._filled.wait()
        packet = self._queue.popleft()
        self.sent += 1
        self._timestamp = packet.timestamp
        return packet

    def stop(self) -> None:
        super().stop()
        self._queue.clear()
        self._filled.set()


class Fanout:
    """The viewers of one session. `on_change` hears how many there are per codec, `on_keyframe` which codec
    needs a keyframe; both are called on the event loop."""

    def __init__(
        self, on_change: Callable[[dict[str, int]], None], on_keyframe: Callable[[str], None]
    ) -> None:
        self._on_change, self._on_keyframe = on_change, on_keyframe
        self._tracks: dict[str, list[PacketTrack]] = {}
        self._picture_id: dict[str, int] = {}
        self.closed = False

    @property
    def viewers(self) -> dict[str, int]:
        return {codec: len(tracks) for codec, tracks in self._tracks.items() if tracks}

    @property
    def count(self) -> int:
        return sum(self.viewers.values())

    def track(self, codec: str) -> PacketTrack:
        """A new viewer's; it counts from its first read on and until `leave`."""
        track = PacketTrack(
            on_start=lambda: self._join(codec, track), on_starved=lambda: self._on_keyframe(codec)
        )
        return track

    def request_keyframe(self, codec: str) -> None:
        self._on_keyframe(codec)

    def _join(self, codec: str, track: PacketTrack) -> None:
        if self.closed:
            track.stop()
            return
        self._tracks.setdefault(codec, []).append(track)
        self._on_change(self.viewers)
        self._on_keyframe(codec)

    def leave(self, track: PacketTrack) -> None:
        """Idempotent."""
        for tracks in self._tracks.values():
            with contextlib.suppress(ValueError):
                tracks.remove(track)
                self._on_change(self.viewers)
        track.stop()

    def push(self, packet: Packet) -> int:
        """To every viewer of this codec, cut into payloads once for all of them. How many there are."""
        tracks = self._tracks.get(packet.codec)
        if not tracks:
            return 0
        picture_id = self._picture_id[packet.codec] = self._picture_id.get(packet.codec, 0) + 1
        payloads = packetize(packet.codec, packet.data, picture_id)
        shared = Payloads(payloads, packet.pts_90k, packet.keyframe)
        for track in tracks:
            track.offer(shared)
        return len(tracks)

    def close(self) -> None:
        """The session has ended: all tracks end, and so does whoever comes late."""
        self.closed = True
        for tracks in self._tracks.values():
            for track in tracks:
                track.stop()
        self._tracks.clear()
