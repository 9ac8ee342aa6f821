"""Sends one session's encoded frames to all its viewers, each on its own rung, without waiting for any of
them.

A viewer starts at a keyframe, changes rungs at a keyframe, and continues at a keyframe if it had to skip
frames. This runs on the event loop and knows neither what sessions show nor connections.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from server.ladder import parts, rendition
from server.webrtc.recent import Frame, Recent
from server.webrtc.rtp.packetize import Payloads, packetize
from server.worker.messages.events import Packet

AT_ONCE = 12  # viewers that are served before other work on the event loop gets a turn
QUEUE = 8  # frames that may wait while others are served; overflow drops the oldest


class Subscription:
    """One viewer's subscription. `deliver` sends a frame and returns False if it could not: the viewer then
    skips frames up to the next keyframe. `on_starved` is called whenever a keyframe is needed to continue."""

    def __init__(self, codec: str, deliver: Callable[[Payloads], bool], rung: int = 0) -> None:
        self.codec, self.rung, self.deliver = codec, rung, deliver
        self.wanted = rung  # differs from `rung` until the keyframe at which it changes
        self.waiting = True  # waits for a keyframe
        self.timestamp: int | None = None  # of the latest frame
        self.sent = self.dropped = 0

    @property
    def renditions(self) -> set[str]:
        return {rendition(self.codec, self.rung), rendition(self.codec, self.wanted)}


class Fanout:
    """The viewers of one session. `on_change` is told how many watch each rendition, `on_keyframe` which one
    needs a keyframe; both are called on the event loop."""

    def __init__(
        self, on_change: Callable[[dict[str, int]], None], on_keyframe: Callable[[str], None]
    ) -> None:
        self._on_change, self._on_keyframe = on_change, on_keyframe
        self._subscriptions: list[Subscription] = []
        self._numbers: dict[str, int] = {}  # rendition → picture id of its latest frame
        self._queue: deque[tuple[Payloads, str, list[Subscription]]] = deque()
        self._busy = False
        self.recent = Recent()
        self.closed = False

    @property
    def viewers(self) -> dict[str, int]:
        """How many watch each rendition. A viewer that is changing rungs counts for both."""
        counts: dict[str, int] = {}
        for subscription in self._subscriptions:
            for name in sorted(subscription.renditions):
                counts[name] = counts.get(name, 0) + 1
        return counts

    @property
    def count(self) -> int:
        return len(self._subscriptions)

    def join(self, subscription: Subscription) -> bool:
        """Subscribe, until `leave`. False if the session has ended."""
        if self.closed:
            return False
        self._subscriptions.append(subscription)
        self._changed()
        self._on_keyframe(rendition(subscription.codec, subscription.wanted))
        return True

    def move(self, subscription: Subscription, rung: int, *, at_once: bool) -> None:
        """Change to another rung at its next keyframe; with `at_once`, nothing more of the current one is
        sent."""
        if subscription.wanted == rung or subscription not in self._subscriptions:
            return
        subscription.wanted = rung
        if at_once:
            subscription.rung, subscription.waiting = rung, True
        self._changed()
        if subscription.rung != rung or subscription.waiting:
            self._on_keyframe(rendition(subscription.codec, rung))

    def leave(self, subscription: Subscription) -> None:
        """Idempotent."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
            self._changed()

    def request_keyframe(self, subscription: Subscription) -> None:
        self._on_keyframe(rendition(subscription.codec, subscription.rung))

    def push(self, packet: Packet) -> int:
        """Send to every viewer of this rendition, packetised once for all of them. Returns their number."""
        name = rendition(packet.codec, packet.rung)
        watching = [s for s in self._subscriptions if name in s.renditions]
        count = len(watching)
        if not count:
            return 0
        payloads = packetize(packet.codec, packet.data, self._number(name, packet.keyframe))
        frame = Payloads(payloads, packet.pts_90k, packet.keyframe, packet.data)
        self._queue.append((frame, name, watching))
        if self.recent.add(Frame(name, packet.pts_90k, packet.keyframe, packet.data)):
            self._on_keyframe(name)
        if not self._busy:
            self._serve()
        elif len(self._queue) > QUEUE:
            _, _, skipped = self._queue.popleft()
            for subscription in skipped:
                self._starve(subscription)
        return count

    def close(self) -> None:
        """The session has ended."""
        self.closed = True
        self._subscriptions.clear()
        self._queue.clear()

    def _changed(self) -> None:
        """Clips record the best rendition that is watched; the recorded one is kept while it is watched."""
        viewers = self.viewers
        if self.recent.rendition not in viewers:
            self.recent.keep(min(viewers, key=lambda name: parts(name)[1], default=None))
        self._on_change(viewers)

    def _number(self, name: str, keyframe: bool) -> int:
        """The picture id of the next frame of a rendition.

        Browsers take a frame that is no keyframe to refer to the id before its own, so ids count up by one
        within a rendition, even if it leaves out frames that others show. A keyframe's is above those of all
        renditions, so that ids never decrease when a viewer changes to another one there."""
        before = max(self._numbers.values(), default=0) if keyframe else self._numbers.get(name, 0)
        self._numbers[name] = before + 1
        return before + 1

    def _serve(self) -> None:
        self._busy = False
        served = 0
        while self._queue:
            frame, name, watching = self._queue[0]
            while watching:
                if served == AT_ONCE:
                    self._busy = True
                    asyncio.get_running_loop().call_soon(self._serve)
                    return
                served += 1
                self._give(watching.pop(), frame, name)
            self._queue.popleft()

    def _give(self, subscription: Subscription, frame: Payloads, name: str) -> None:
        s = subscription
        if s.wanted != s.rung and name == rendition(s.codec, s.wanted):
            if not frame.keyframe:
                return
            if s.timestamp is not None and frame.timestamp <= s.timestamp:
                self._on_keyframe(name)  # it has already received this frame
                return
            s.rung, s.waiting = s.wanted, False
            self._changed()
        elif name != rendition(s.codec, s.rung):
            return
        if s.waiting and not frame.keyframe:
            s.dropped += int(s.sent > 0)
            return
        if not s.deliver(frame):
            self._starve(s)
            return
        s.waiting = False
        s.timestamp = frame.timestamp
        s.sent += 1

    def _starve(self, subscription: Subscription) -> None:
        subscription.dropped += 1
        if not subscription.waiting:
            subscription.waiting = True
            self.request_keyframe(subscription)
