"""A bounded queue of messages to be published over MQTT. Pure: no sockets, no clock.

Answers (acks and errors) go first; beyond `answers` the oldest is dropped. States are retained topics: only
the latest message of each topic is kept, and beyond `states` topics the oldest is dropped. Events are
transient: beyond `events` the oldest is dropped, and `forget_events` drops all when the broker is gone.
`dropped_total` counts all dropped messages.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from server.control.mqtt.message import JSON_TYPE

MAX_PAYLOAD_BYTES = 32 * 1024  # far above our largest message; some brokers disconnect at 64 KiB


class Outgoing(NamedTuple):
    topic: str
    payload: bytes
    qos: int
    retain: bool = False
    correlation: bytes | None = None
    expiry_s: int | None = None
    user: tuple[tuple[str, str], ...] = ()
    content_type: str | None = JSON_TYPE


class Outbox:
    def __init__(self, *, answers: int = 4096, events: int = 1024, states: int = 4096) -> None:
        self.dropped_total = 0
        self._answers: deque[Outgoing] = deque()
        self._events: deque[Outgoing] = deque()
        self._states: dict[str, Outgoing] = {}
        self._most_answers = answers
        self._most_events = events
        self._most_states = states

    def __len__(self) -> int:
        return len(self._answers) + len(self._events) + len(self._states)

    def put_answer(self, message: Outgoing) -> None:
        self._put(self._answers, message, self._most_answers)

    def put_event(self, message: Outgoing) -> None:
        self._put(self._events, message, self._most_events)

    def put_state(self, message: Outgoing) -> None:
        """A newer message for the same topic replaces the one that waits."""
        if self._fits(message):
            self._states[message.topic] = message
            if len(self._states) > self._most_states:
                del self._states[next(iter(self._states))]
                self.dropped_total += 1

    def forget_state(self, topic: str) -> None:
        """Drop what waits for this topic."""
        self._states.pop(topic, None)

    def put_back(self, message: Outgoing) -> None:
        """Put an answer that could not be published back at the front, unless the queue is full."""
        if message.qos > 0 and not message.retain and len(self._answers) < self._most_answers:
            self._answers.appendleft(message)

    def forget_events(self) -> None:
        self.dropped_total += len(self._events)
        self._events.clear()

    def take(self) -> Outgoing | None:
        if self._answers:
            return self._answers.popleft()
        if self._states:
            return self._states.pop(next(iter(self._states)))
        return self._events.popleft() if self._events else None

    def _put(self, queue: deque[Outgoing], message: Outgoing, most: int) -> None:
        if not self._fits(message):
            return
        if len(queue) >= most:
            queue.popleft()
            self.dropped_total += 1
        queue.append(message)

    def _fits(self, message: Outgoing) -> bool:
        fits = len(message.payload) <= MAX_PAYLOAD_BYTES
        self.dropped_total += not fits
        return fits
