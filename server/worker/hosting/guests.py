"""Guests: gateways that show a session to their own viewers, while another gateway holds it.

A guest says how many of its viewers watch each rendition, and is sent the same video and news as the owner.
Its controls go to the owner, which answers them. It counts as long as it is heard. Everything here runs on
the event loop.
"""

from __future__ import annotations

from typing import Any, Protocol

from engine.types import SessionClosed
from server.worker.base import Order
from server.worker.hosting.leases import SILENT_S, GuestGateway, Lease
from server.worker.hosting.mail import Mail, connections
from server.worker.messages.commands import RequestKeyframe, SubmitControl
from server.worker.messages.events import Stalled
from server.worker.messages.holding import (
    Answered,
    LeaveSession,
    Moved,
    OtherViewers,
    Submitted,
    WatchSession,
)
from server.worker.wire.connection import Connection

MAX_GUESTS = 12  # of one session; see `psistream bench gateways` for what each costs the worker
NO_SESSION = "no session has this id; it may have ended"
MANY = f"{MAX_GUESTS} other gateways show this session, which is the most"


class Put(Protocol):
    """Carries out an order. If too many wait, it slows its sender down."""

    def __call__(self, order: Order, connection: Connection | None = None) -> None: ...


class GuestGateways:
    """See Put."""

    def __init__(self, mail: Mail, put: Put) -> None:
        self._mail, self._put = mail, put

    def take(self, connection: Connection, order: Any) -> bool:
        """Take an order from a gateway that doesn't hold the session. False: it is none of a guest's."""
        lease = self._mail.leases.get(order.session)
        match order:
            case WatchSession():
                self._watch(connection, lease, order)
            case LeaveSession():
                if lease is not None:
                    self._leave(connection, lease)
            case SubmitControl(session, control) if lease is not None and connection in lease.guests:
                for owner in connections([lease.owner]):  # without one it waits at the guest for the next
                    owner.send(Submitted(session, control), session)
            case RequestKeyframe() if lease is not None and connection in lease.guests:
                self._put(order, connection)
            case _:
                return False
        return True

    def relay(self, lease: Lease, order: Answered | Moved | Stalled) -> None:
        """Tell the guests something that their session's owner says."""
        if isinstance(order, Stalled):
            lease.stall, lease.stalled_s = order.stall, self._mail.now_s()
        for guest in connections(lease.guests):
            guest.send(order, lease.session)

    def changed(self, lease: Lease, connection: Connection | None = None) -> None:
        """Somebody watches, or does no more: carry it out, and tell each gateway how many others have.
        `connection`: where the order came from."""
        with self._mail.lock:
            audience = lease.audience()
            waiting = self._mail.waiting.get(lease.session)
            if waiting is not None:
                waiting.append(audience)
        if waiting is None:
            self._put(audience, connection)
        self._tell(lease)

    def _tell(self, lease: Lease) -> None:
        elsewhere = sum(guest.count for guest in lease.heard_guests.values())
        if lease.told != elsewhere:
            lease.told = elsewhere
            for owner in connections([lease.owner]):
                owner.send(OtherViewers(lease.session, elsewhere), lease.session)
        for guest in connections(lease.heard_guests):
            known = lease.guests[guest]
            if known.told != (elsewhere := lease.count - known.count):
                known.told = elsewhere
                guest.send(OtherViewers(lease.session, elsewhere), lease.session)

    def claimed(self, lease: Lease) -> None:
        """Another gateway holds the session now: the guests send it what the last one may not have got."""
        if (watched := self._mail.watched(lease)) is not None:
            for guest in connections(lease.heard_guests):
                guest.send(watched, lease.session)
        self._tell(lease)

    def gone(self, connection: Connection) -> None:
        """A gateway's connection has ended."""
        for lease in self._mail.leases:
            self._leave(connection, lease)

    def look(self, now_s: float) -> None:
        """What silence does to guests: to be called twice a second."""
        for lease in self._mail.leases:
            changed = False
            for gateway in connections(lease.guests):
                was, silent = lease.guests[gateway].silent, now_s - gateway.heard_s >= SILENT_S
                changed = changed or silent != was
                with self._mail.lock:
                    lease.guests[gateway].silent = silent
                if was and not silent and (watched := self._mail.watched(lease)) is not None:
                    gateway.send(watched, lease.session)  # another gateway may have claimed it meanwhile
            if changed:
                self.changed(lease)

    def _watch(self, connection: Connection, lease: Lease | None, order: WatchSession) -> None:
        if lease is None:
            connection.send(SessionClosed(order.session, "unknown_session", NO_SESSION))
            return
        if lease.owner is connection:  # it has just claimed it
            return
        known = lease.guests.get(connection)
        if known is None and len(lease.guests) >= MAX_GUESTS:
            connection.send(SessionClosed(order.session, "full", MANY))
            return
        known = known or GuestGateway({}, 0)
        viewers = {name: n for name, n in order.viewers.items() if n > 0}
        changed = (known.viewers, known.count) != (viewers, order.count)
        for name in viewers.keys() - known.viewers.keys():
            connection.outbox.await_keyframe(f"{order.session} {name}")
        with self._mail.lock:
            lease.guests[connection] = GuestGateway(viewers, order.count, told=known.told)
        if (watched := self._mail.watched(lease)) is not None:
            connection.send(watched, order.session)
        if changed:
            self.changed(lease, connection)
        self._tell(lease)

    def _leave(self, connection: Connection, lease: Lease) -> None:
        with self._mail.lock:
            known = lease.guests.pop(connection, None)
        if known is not None:
            connection.outbox.forget(lease.session)
            self.changed(lease)
