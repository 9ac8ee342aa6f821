"""The messages that the server publishes over MQTT: retained states, server status, events, answers to
commands.

It only writes to the outbox. Pure except for the Steering that it is given: no sockets, no tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.errors import UnknownSession
from engine.types import Receipt, SessionClosed, SessionInfo
from engine.wire.strict_json import dump
from server.cluster.peers import is_taken
from server.control.base import SessionEvent, Steering
from server.control.mqtt.connection.outbox import Outbox, Outgoing
from server.control.mqtt.discovery import HomeAssistant
from server.control.mqtt.message import Route
from server.control.mqtt.servers import Servers
from server.control.mqtt.topics import MAIN, Topics
from server.control.protocol import event_json
from server.worker.messages.events import SegmentStats

ANSWER_EXPIRY_S = 60
RETAINED_EXPIRY_S = 300  # expiry of retained messages in MQTT 5; `put_everything_retained` renews them
RENEW_S = 100.0


def status_message(
    node: str, status: str, sessions: int = 0, instance: str = "", *, cluster: bool = False
) -> bytes:
    message = {"type": "status", "node": node, "status": status, "sessions": sessions, "instance": instance}
    return dump({**message, "cluster": cluster}).encode()


class Publisher:
    """`on_put` is called after a message was put into the outbox; `elsewhere` says whether another gateway of
    the cluster has a session."""

    def __init__(
        self,
        steering: Steering,
        outbox: Outbox,
        topics: Topics,
        servers: Servers,
        on_put: Callable[[], None],
        discovery: HomeAssistant | None = None,
        elsewhere: Callable[[str], bool] = lambda session: False,
    ) -> None:
        self._discovery, self._elsewhere = discovery, elsewhere
        self._steering = steering
        self._outbox = outbox
        self._topics = topics
        self._servers = servers
        self._on_put = on_put
        self._known: set[str] = set()  # sessions that have a retained state
        self._named: set[str] = set()  # their topic names
        self._ghosts: set[str] = set()  # of an earlier run, not cleared yet

    def knows(self, session: str) -> bool:
        return session in self._known

    # ---- events ----

    def on_event(self, event: SessionEvent, *, connected: bool) -> None:
        """Transient events are only published while the broker is connected."""
        match event:
            case SessionInfo():
                self._put_state(event)
            case SessionClosed() if is_taken(event):
                self._hand_over(event.session)
            case SessionClosed():
                self._forget(event.session)
                self._put_event(event.session, event_json(event), qos=1)
            case SegmentStats():
                if connected:
                    self._put_event(event.session, event_json(event), qos=0)
            case Receipt(status=status):
                if connected and status != "received":
                    self._put_event(event.session, event_json(event), qos=0)
        self._on_put()

    def put_answer(self, route: Route, message: dict[str, Any]) -> None:
        self._outbox.put_answer(
            Outgoing(
                route.topic,
                dump(message).encode(),
                qos=1,
                correlation=route.correlation,
                expiry_s=ANSWER_EXPIRY_S,
                user=route.user,
            )
        )
        self._on_put()

    def put_error(self, name: str, message: dict[str, Any]) -> None:
        self._outbox.put_answer(Outgoing(self._topics.error(name), dump(message).encode(), qos=1))
        self._on_put()

    def _put_event(self, session: str, message: dict[str, Any], *, qos: int) -> None:
        payload = dump(message).encode()
        for name in self._servers.names_of(session):
            self._outbox.put_event(Outgoing(self._topics.event(name), payload, qos=qos))

    # ---- retained topics ----

    def put_everything_retained(self) -> None:
        """Publish all retained messages again: after connecting, since the broker may have lost them, and
        periodically, since they expire."""
        self._known = set()
        self._put_status("online")
        for session in self._steering.session_ids():
            try:
                self._put_state(self._steering.info(session))
            except UnknownSession:
                continue
        self._put_names()
        for message in self._discovery.messages() if self._discovery and self._has_main() else ():
            self._outbox.put_state(message)
        self._on_put()

    def _has_main(self) -> bool:
        return MAIN in self._known or not self._servers.member

    def put_farewell(self) -> None:
        """Replace all retained messages that would no longer be true."""
        self._clear_states(list(self._named))
        self._known.clear()
        self._retain(self._topics.sessions(self._servers.node), b"")
        self._put_status("offline")
        self._on_put()

    def put_status(self) -> None:
        self._put_status("online")
        self._on_put()

    def rename_main(self) -> None:
        """This server became the only one on its broker, or no longer is: plain `main` then starts or stops
        being its session's name."""
        current = self._servers.names_of(MAIN)
        self._clear_states([MAIN] if MAIN in self._named and MAIN not in current else [])
        if MAIN in self._known:
            self._put_state(self._steering.info(MAIN))
        self._on_put()

    def clear_ghosts(self, names: list[str]) -> None:
        """Clear states of ended sessions that an earlier run of this server left behind. In a cluster they
        may be another gateway's by now, so that is done later: see `renew`."""
        if self._servers.member:
            self._ghosts.update(names)
        else:
            self._clear_states([name for name in names if name not in self._named])
        self._on_put()

    def renew(self) -> None:
        """Publish all retained messages again: in MQTT 5 they expire, so that a vanished server's
        disappear."""
        ghosts, self._ghosts = self._ghosts - self._named, set()
        self._clear_states([name for name in ghosts if not self._elsewhere(self._servers.session_of(name))])
        self.put_everything_retained()

    def put_picture(self, session: str, picture: bytes) -> None:
        """Publish under the permanent name, for clients that found it by discovery."""
        if session not in self._known or self._discovery is None:
            return
        topic = self._topics.picture(self._servers.names_of(session)[0])
        self._outbox.put_state(Outgoing(topic, picture, qos=0, retain=True, content_type="image/jpeg"))
        self._on_put()

    def clear(self, topic: str) -> None:
        self._outbox.put_state(Outgoing(topic, b"", qos=1, retain=True))
        self._on_put()

    def _put_state(self, info: SessionInfo) -> None:
        names = self._servers.names_of(info.id)
        if info.id not in self._known:
            self._known.add(info.id)
            self._put_status("online")
        if not self._named.issuperset(names):
            self._named.update(names)
            self._put_names()  # before the states: a name without a state is harmless after a crash
        payload = dump({**event_json(info), "node": self._servers.node}).encode()
        for name in names:
            self._retain(self._topics.state(name), payload)

    def _forget(self, session: str) -> None:
        if session in self._known:
            self._known.discard(session)
            self._clear_states([name for name in self._servers.names_of(session) if name in self._named])
            self._put_status("online")

    def _hand_over(self, session: str) -> None:
        """Another gateway has the session, and publishes under the same names, except main.NODE."""
        self._known.discard(session)
        kept = {session} & self._named
        self._named -= kept
        for name in kept:
            self._outbox.forget_state(self._topics.state(name))
        self._clear_states([name for name in self._servers.names_of(session) if name in self._named])
        self._put_names()
        self._put_status("online")

    def _clear_states(self, names: list[str]) -> None:
        for name in names:
            self._named.discard(name)
            self._outbox.put_state(Outgoing(self._topics.state(name), b"", qos=1, retain=True))
            if self._discovery is not None and name != MAIN:
                self._outbox.put_state(Outgoing(self._topics.picture(name), b"", qos=1, retain=True))
        if names:
            self._put_names()

    def put_names(self) -> None:
        """Tell other servers which sessions are here, so that they leave those to this one."""
        self._put_names()
        self._on_put()

    def _put_names(self) -> None:
        names = sorted({*self._named, *self._ghosts, *self._steering.waiting_ids()})
        message = {"type": "sessions", "node": self._servers.node, "sessions": names}
        self._retain(self._topics.sessions(self._servers.node), dump(message).encode())

    def _put_status(self, status: str) -> None:
        node, instance, cluster = self._servers.node, self._servers.instance, self._servers.member
        payload = status_message(node, status, len(self._known), instance, cluster=cluster)
        expiry_s = RETAINED_EXPIRY_S if status == "online" else None
        topic = self._topics.status(self._servers.node)
        self._outbox.put_state(Outgoing(topic, payload, qos=1, retain=True, expiry_s=expiry_s))

    def _retain(self, topic: str, payload: bytes) -> None:
        """Publish a retained message. Only session names do not expire, so that the next start finds what
        this run left behind."""
        expires = payload and topic != self._topics.sessions(self._servers.node)
        expiry_s = RETAINED_EXPIRY_S if expires else None
        self._outbox.put_state(Outgoing(topic, payload, qos=1, retain=True, expiry_s=expiry_s))
