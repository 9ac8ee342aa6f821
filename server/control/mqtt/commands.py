"""What the MQTT bridge does with a message or an event: commands to the gateway, answers to the outbox.

Pure but for the Steering it is given: no sockets, no tasks, injected clocks. So it needs no broker to test.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from engine.errors import PsistreamError, UnknownSession
from engine.types import Control, Receipt, SessionClosed, SessionInfo
from engine.wire.strict_json import dump
from server.control.base import SessionEvent, Steering
from server.control.mqtt import topics
from server.control.mqtt.message import Command, Route, read_command
from server.control.mqtt.outbox import Outbox, Outgoing
from server.control.protocol import error_json, event_json, receipt_json
from server.ratelimit import TokenBucket
from server.worker.messages import SegmentStats

log = logging.getLogger(__name__)

RATE_HZ, BURST = 60.0, 120  # per session: MQTT 3.1.1 doesn't say who publishes
REFUSALS_HZ, REFUSALS_BURST = 5.0, 10
MAX_ROUTES = (
    1024  # controls whose `applied` is awaited; beyond it the oldest gets its answer as an event only
)
ANSWER_EXPIRY_S = 60


def status_message(node: str, status: str, sessions: int = 0) -> bytes:
    return dump({"type": "status", "node": node, "status": status, "sessions": sessions}).encode()


class Steerer:
    """`on_put` is called after something was put into the outbox."""

    def __init__(
        self,
        steering: Steering,
        outbox: Outbox,
        node: str,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        on_put: Callable[[], None],
    ) -> None:
        self.received_total = 0
        self.rejected_total = 0
        self._steering = steering
        self._outbox = outbox
        self._node = node
        self._clock = clock
        self._wall_clock = wall_clock
        self._on_put = on_put
        self._routes: OrderedDict[tuple[str, str], Route] = OrderedDict()
        self._buckets: dict[str, TokenBucket] = {}
        self._refusals = TokenBucket(REFUSALS_HZ, REFUSALS_BURST, clock())
        self._known: set[str] = set()  # sessions that have a retained state

    # ---- commands ----

    def on_message(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        response_topic: str | None = None,
        correlation: bytes | None = None,
        expiry_s: float | None = None,
    ) -> None:
        """`expiry_s` is for how long MQTT 5 still holds the message to be of use."""
        self.received_total += 1
        named = topics.parse_command(topic)
        if named is None:
            self.rejected_total += 1
            log.debug("MQTT: no session can be meant by topic %.100r", topic)
            return
        if retain and not payload:
            return  # somebody clears a retained command
        session = named.session
        if not self._bucket(session).allow(self._clock()):
            self._refuse_flood(session)
            return
        command = read_command(
            session, named.verb, payload, response_topic=response_topic, correlation=correlation
        )
        if retain:
            self._reject(
                session,
                command,
                "retained",
                "a command must not be retained, or it would come again at every reconnect: publish it "
                "without the retain flag (mosquitto_pub without -r)",
            )
            return
        if command.control is None:
            error = command.error
            self._reject(
                session, command, "invalid", error.message if error else "", error.field if error else None
            )
            return
        left_s = self._left_s(command, expiry_s)
        if left_s < 0:
            self._reject(
                session, command, "expired", "it came after its expires_at: send it again", "expires_at"
            )
        elif left_s < math.inf:  # it may still wait too long for its segment
            self._submit(session, command, replace(command.control, expires_s=self._clock() + left_s))
        else:
            self._submit(session, command, command.control)

    def take_retained(self, topic: str, payload: bytes) -> bool:
        """Refuse a command that is to be retained; False: it is no command, and anybody's to read."""
        if topics.parse_command(topic) is None:
            return False
        self.on_message(topic, payload, retain=True)
        return True

    def _left_s(self, command: Command, expiry_s: float | None) -> float:
        """How long it may take until this has effect."""
        left_s = math.inf if expiry_s is None else expiry_s
        if command.expires_at is None:
            return left_s
        return min(left_s, command.expires_at - self._wall_clock())

    def _submit(self, session: str, command: Command, control: Control) -> None:
        key = (session, command.id)
        first = self._routes.get(key)  # who waits for the answer to a control with this id
        self._routes[key] = command.route  # before the call: a listener may hear `applied` within it
        self._routes.move_to_end(key)
        while len(self._routes) > MAX_ROUTES:
            self._routes.popitem(last=False)
        try:
            receipt = self._steering.submit(session, control)
        except PsistreamError as error:
            self._routes.pop(key, None)
            self._reject(session, command, error.code, error.message, error.field)
            return
        except Exception:  # outermost: the sender gets an answer even to a fault of ours
            log.exception("session %s: control %s failed", session, command.id)
            self._routes.pop(key, None)
            self._reject(session, command, "internal", "the server failed to handle this; it goes on")
            return
        if receipt.status != "received":
            self._routes.pop(key, None)
        if receipt.status == "rejected" and first is not None:
            self._routes[key] = first
        self.rejected_total += receipt.status == "rejected"
        self._put_answer(command.route, receipt_json(receipt))

    def _reject(self, session: str, command: Command, code: str, text: str, field: str | None = None) -> None:
        """To the sender, and to the session's error topic for whoever looks after it."""
        self.rejected_total += 1
        receipt = Receipt(session=session, id=command.id, status="rejected", code=code, message=text)
        self._put_answer(command.route, receipt_json(receipt, field=field))
        self._put_error(session, {**error_json(code, text, field=field), "id": command.id})

    def _refuse_flood(self, session: str) -> None:
        self.rejected_total += 1
        if self._refusals.allow(self._clock()):
            text = f"too many commands for this session: send at most {RATE_HZ:.0f} per second"
            self._put_error(session, {**error_json("rate_limited", text), "id": None})

    def _bucket(self, session: str) -> TokenBucket:
        name = session if session in self._known else ""  # unknown ones share: names must not fill the memory
        if name not in self._buckets:
            self._buckets[name] = TokenBucket(RATE_HZ, BURST, self._clock())
        return self._buckets[name]

    # ---- events ----

    def on_event(self, event: SessionEvent, *, connected: bool) -> None:
        match event:
            case SessionInfo():
                self._put_state(event)
            case SessionClosed():
                self._forget(event.session)
                self._put_event(event.session, event_json(event), qos=1)
            case SegmentStats():
                if connected:
                    self._put_event(event.session, event_json(event), qos=0)
            case Receipt():
                self._on_receipt(event, connected=connected)
        self._on_put()

    def _on_receipt(self, receipt: Receipt, *, connected: bool) -> None:
        if receipt.status == "received":
            return  # told by `_submit`
        message = receipt_json(receipt)
        route = self._routes.pop((receipt.session, receipt.id), None)
        if route is not None:
            self._put_answer(route, message)
        if connected:
            self._put_event(receipt.session, message, qos=0)

    # ---- retained topics ----

    def put_everything_retained(self) -> None:
        """After (re)connecting: the broker may have forgotten all."""
        self._known.clear()
        self._put_status("online")
        for session in self._steering.session_ids():
            try:
                self._put_state(self._steering.info(session))
            except UnknownSession:
                continue
        self._on_put()

    def put_farewell(self) -> None:
        for session in list(self._known):
            self._clear_state(session)
        self._put_status("offline")

    def _put_state(self, info: SessionInfo) -> None:
        if info.id not in self._known:
            self._known.add(info.id)
            self._put_status("online")
        payload = dump(event_json(info)).encode()
        self._outbox.put_state(Outgoing(topics.state(info.id), payload, qos=1, retain=True))

    def _forget(self, session: str) -> None:
        self._buckets.pop(session, None)
        for key in [key for key in self._routes if key[0] == session]:
            del self._routes[key]
        if session in self._known:
            self._clear_state(session)
            self._put_status("online")

    def _clear_state(self, session: str) -> None:
        self._known.discard(session)
        self._outbox.put_state(Outgoing(topics.state(session), b"", qos=1, retain=True))

    def _put_status(self, status: str) -> None:
        payload = status_message(self._node, status, len(self._known))
        self._outbox.put_state(Outgoing(topics.status(self._node), payload, qos=1, retain=True))

    # ---- out ----

    def _put_answer(self, route: Route, message: dict[str, Any]) -> None:
        payload = dump(message).encode()
        self._outbox.put_answer(
            Outgoing(route.topic, payload, qos=1, correlation=route.correlation, expiry_s=ANSWER_EXPIRY_S)
        )
        self._on_put()

    def _put_error(self, session: str, message: dict[str, Any]) -> None:
        self._outbox.put_answer(Outgoing(topics.error(session), dump(message).encode(), qos=1))
        self._on_put()

    def _put_event(self, session: str, message: dict[str, Any], *, qos: int) -> None:
        self._outbox.put_event(Outgoing(topics.event(session), dump(message).encode(), qos=qos))
