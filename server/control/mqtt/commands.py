"""Handles messages on command topics: submits the control and answers its sender.

Pure except for the Steering that it is given: no sockets, no tasks, injected clocks. So tests need no broker.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from engine.errors import PsistreamError
from engine.types import Control, Receipt, SessionClosed
from server.control.base import SessionEvent, Steering
from server.control.mqtt.message import NO_PROPERTIES, Command, Properties, Route, read_command
from server.control.mqtt.publisher import Publisher
from server.control.mqtt.servers import Servers
from server.control.mqtt.topics import CommandTopic, Topics, main_of
from server.control.protocol import error_json, receipt_json
from server.ratelimit import TokenBucket

log = logging.getLogger(__name__)

RATE_HZ, BURST = 60.0, 120  # per session: MQTT 3.1.1 doesn't say who publishes
RETRY_S = 1  # after a refusal for more than that
ERRORS_HZ, ERRORS_BURST = 5.0, 10  # on error topics, about commands beyond the rate
MAX_ROUTES = 1024  # controls that wait for `applied`; beyond it the oldest is answered as an event only
RETAINED = (
    "a command must not be retained, or the broker would deliver it again at every reconnect: publish it "
    "without the retain flag (mosquitto_pub without -r)"
)


@dataclass(frozen=True)
class Rights:
    """Who may steer. A token in a command is checked; with `needs_token` it is required for sessions that
    have one. `authorize(session, token)` raises PsistreamError if the token may not steer."""

    authorize: Callable[[str, str], None] = lambda session, token: None
    needs_token: bool = False

    def check(self, session: str, token: str | None) -> None:
        """Raises PsistreamError."""
        if self.needs_token or token is not None:
            self.authorize(session, token or "")


class Commands:
    """Commands for sessions of other servers on the same broker are left to them."""

    def __init__(
        self,
        steering: Steering,
        publisher: Publisher,
        topics: Topics,
        servers: Servers,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        rights: Rights | None = None,
    ) -> None:
        self._rights = rights or Rights()
        self.received_total = 0
        self.rejected_total = 0
        self._steering = steering
        self._publisher = publisher
        self._topics = topics
        self._servers = servers
        self._clock = clock
        self._wall_clock = wall_clock
        self._routes: OrderedDict[tuple[str, str], Route] = OrderedDict()
        self._buckets: dict[str, TokenBucket] = {}
        self._errors = TokenBucket(ERRORS_HZ, ERRORS_BURST, clock())

    def on_message(
        self, topic: str, payload: bytes, properties: Properties = NO_PROPERTIES, *, retain: bool = False
    ) -> bool:
        """Handle a command, unless it is for another server, or for none. Returns whether it is ours."""
        named = self._topics.parse_command(topic)
        if named is None:
            self.received_total += 1
            self.rejected_total += 1
            log.debug("MQTT: topic %.100r cannot name a session", topic)
            return True
        if not self.is_ours(named.name):
            return False
        if not retain or payload:  # otherwise somebody clears a retained command
            self._handle(topic, named, payload, properties, retain=retain)
        return True

    def _handle(
        self, topic: str, named: CommandTopic, payload: bytes, properties: Properties, *, retain: bool
    ) -> None:
        session = self._servers.session_of(named.name)
        self.received_total += 1
        command = read_command(self._topics, named.name, named.verb, payload, properties)
        ambiguous = self._servers.is_ambiguous(named.name)
        if not self._bucket("" if ambiguous else session).allow(self._clock()):
            self._refuse_flood(named.name, command)
        elif ambiguous:
            self._reject(named.name, command, "ambiguous", self._which_main(named), "session")
        elif retain:
            self._reject(named.name, command, "retained", RETAINED)
            self._publisher.clear(topic)
        elif command.control is None:
            error = command.error
            text, field = (error.message, error.field) if error else ("", None)
            self._reject(named.name, command, "invalid", text, field)
        else:
            self._submit_in_time(named.name, session, command, command.control, properties.expiry_s)

    def take_retained(self, topic: str, payload: bytes) -> bool:
        """Reject a command with the retain flag. False: it is not a command, and the broker should keep
        it."""
        if self._topics.parse_command(topic) is None:
            return False
        self.on_message(topic, payload, retain=True)
        return True

    def on_event(self, event: SessionEvent) -> None:
        """Send `applied` to the sender that waits for it, and forget sessions that have ended."""
        match event:
            case SessionClosed(session):
                self._buckets.pop(session, None)
                for key in [key for key in self._routes if key[0] == session]:
                    del self._routes[key]
            case Receipt(session, id_, status) if status != "received":  # `received` is told by `_submit`
                route = self._routes.pop((session, id_), None)
                if route is not None:
                    self._publisher.put_answer(route, receipt_json(event))

    # ---- whose ----

    def is_ours(self, name: str) -> bool:
        """Whether this server must answer at once. If it is the only one, no other server will."""
        if self._servers.is_ambiguous(name):
            return self._servers.speaks_for_all
        alone, session = self._servers.alone and not self._servers.member, self._servers.session_of(name)
        return alone or session in self._steering.session_ids() or session in self._steering.waiting_ids()

    def _which_main(self, named: CommandTopic) -> str:
        nodes = self._servers.nodes
        first = ", ".join(self._topics.command(main_of(node), named.verb) for node in nodes[:3])
        more = f" or {len(nodes) - 3} more" if len(nodes) > 3 else ""
        return f"{len(nodes)} servers share this broker, each with a session main: publish to {first}{more}"

    # ---- to the gateway ----

    def _submit_in_time(
        self, name: str, session: str, command: Command, control: Control, expiry_s: float | None
    ) -> None:
        left_s = math.inf if expiry_s is None else expiry_s
        if command.expires_at is not None:
            left_s = min(left_s, command.expires_at - self._wall_clock())
        if left_s < 0:
            self._reject(
                name, command, "expired", "it came after its expires_at: send it again", "expires_at"
            )
        elif left_s < math.inf:  # it may still wait too long for its segment
            self._submit(name, session, command, replace(control, expires_s=self._clock() + left_s))
        else:
            self._submit(name, session, command, control)

    def _submit(self, name: str, session: str, command: Command, control: Control) -> None:
        key = (session, command.id)
        first = self._routes.get(key)  # who waits for the answer to a control with this id
        self._routes[key] = command.route  # before the call: a listener may hear `applied` within it
        self._routes.move_to_end(key)
        while len(self._routes) > MAX_ROUTES:
            self._routes.popitem(last=False)
        try:
            self._rights.check(session, command.token)
            receipt = self._steering.submit(session, control)
        except PsistreamError as error:
            self._routes.pop(key, None)
            self._reject(name, command, error.code, error.message, error.field, error.retry_after_s)
            return
        except Exception:  # outermost: the sender gets an answer even to a fault of ours
            log.exception("session %s: control %s failed", session, command.id)
            self._routes.pop(key, None)
            self._reject(name, command, "internal", "the server failed to handle this; it goes on")
            return
        if receipt.status != "received":
            self._routes.pop(key, None)
        if receipt.status == "rejected" and first is not None:
            self._routes[key] = first
        self.rejected_total += receipt.status == "rejected"
        self._publisher.put_answer(command.route, receipt_json(receipt))

    # ---- refusals ----

    def refuse(
        self,
        topic: str,
        payload: bytes,
        properties: Properties,
        code: str,
        text: str,
        *,
        retain: bool,
        retry_after_s: int | None = None,
    ) -> None:
        """Answer a command that is for no session of this server."""
        named = self._topics.parse_command(topic)
        assert named is not None  # heard as a command
        self.received_total += 1
        command = read_command(self._topics, named.name, named.verb, payload, properties)
        if not self._bucket("").allow(self._clock()):
            self._refuse_flood(named.name, command)
        elif retain:
            self._reject(named.name, command, "retained", RETAINED)
            self._publisher.clear(topic)
        else:
            self._reject(named.name, command, code, text, "session", retry_after_s)

    def _reject(
        self,
        name: str,
        command: Command,
        code: str,
        text: str,
        field: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        """Send an error to the sender, and to the session's error topic for monitoring."""
        self._answer_no(name, command, code, text, field, retry_after_s)
        error = error_json(code, text, field=field, retry_after_s=retry_after_s)
        self._publisher.put_error(name, {**error, "id": command.id})

    def _answer_no(
        self,
        name: str,
        command: Command,
        code: str,
        text: str,
        field: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        self.rejected_total += 1
        session = self._servers.session_of(name)
        receipt = Receipt(session=session, id=command.id, status="rejected", code=code, message=text)
        answer = receipt_json(receipt, field=field, retry_after_s=retry_after_s)
        self._publisher.put_answer(command.route, answer)

    def _refuse_flood(self, name: str, command: Command) -> None:
        """Answer every sender that can recognise its answer, and publish on the error topic at a limited
        rate."""
        text = f"too many commands for this session: send at most {RATE_HZ:.0f} per second"
        if command.awaited:
            self._answer_no(name, command, "rate_limited", text, retry_after_s=RETRY_S)
        else:
            self.rejected_total += 1
        if self._errors.allow(self._clock()):
            error = error_json("rate_limited", text, retry_after_s=RETRY_S)
            self._publisher.put_error(name, {**error, "id": None})

    def _bucket(self, session: str) -> TokenBucket:
        """Unknown sessions share one bucket, so that invented names do not fill memory."""
        name = session if self._publisher.knows(session) else ""
        if name not in self._buckets:
            self._buckets[name] = TokenBucket(RATE_HZ, BURST, self._clock())
        return self._buckets[name]
