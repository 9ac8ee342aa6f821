"""Who holds a session: what silence and claims do to it. Everything here runs on the event loop."""

from __future__ import annotations

import logging
from collections.abc import Callable

from engine.types import SessionClosed
from server.worker.base import Order
from server.worker.endings import Endings
from server.worker.epochs import CLOSED
from server.worker.hosting.guests import NO_SESSION, GuestGateways
from server.worker.hosting.leases import Lease, LeaseStage
from server.worker.hosting.mail import Mail
from server.worker.messages.commands import CloseSession
from server.worker.messages.events import WorkerReady
from server.worker.messages.holding import ClaimSession, EndCopy, Fenced, Orphaned
from server.worker.wire.connection import Connection
from server.worker.wire.schema import Welcome

log = logging.getLogger(__name__)


MOST_CLOSED = 1024  # sessions


class Custody:
    """`put` carries out an order."""

    def __init__(self, mail: Mail, guests: GuestGateways, put: Callable[[Order], None]) -> None:
        self._mail, self._guests, self._put = mail, guests, put
        self._closed = Endings(MOST_CLOSED)  # for good

    def welcome(self, connection: Connection, ready: WorkerReady) -> None:
        """A gateway has connected: tell it what there is."""
        leases = self._mail.leases
        orphans = tuple(Orphaned(lease.session, lease.epoch) for lease in leases.orphans())
        held = tuple(Fenced(lease.session, lease.epoch) for lease in leases.held())
        connection.send(Welcome(ready, orphans, held))
        for session in self._closed:
            connection.send(Fenced(session, CLOSED))

    def tell(self, connection: Connection, session: str, epoch: int) -> None:
        """This gateway holds the session now, or has closed it: the others may have other copies."""
        for gateway in self._mail.gateways:
            if gateway is not connection:
                gateway.send(Fenced(session, epoch))

    def epoch(self, session: str) -> int:
        """Below which no copy of the session may begin here."""
        return self._closed.epoch(session)

    def refuse(self, connection: Connection, session: str, known: Lease | None) -> None:
        """It would open what is here with an epoch that is at least as high, or what was closed."""
        if known is None or self.epoch(session):
            connection.send(Fenced(session, self.epoch(session)))
        elif known.owner is connection:  # it has just claimed it
            known.awaited = known.info is None
            if not known.awaited:
                connection.send(self._mail.claimed(known))
        else:
            connection.send(Fenced(session, known.epoch))
            if known in self._mail.leases.orphans():  # perhaps it did not care for it when it was told
                connection.send(Orphaned(session, known.epoch))

    def end(self, connection: Connection, order: EndCopy) -> bool:
        """Whether there is a copy that is to be closed."""
        lease = self._mail.leases.get(order.session)
        own = lease is not None and lease.owner is connection
        if order.epoch >= CLOSED and self._closed.add(order.session, CLOSED) and not own:
            self.tell(connection, order.session, CLOSED)
        if lease is None or lease.closing or lease.epoch >= order.epoch:
            return False
        with self._mail.lock:
            lease.closing = True
            if isinstance(lease.owner, Connection) and not own:
                if order.epoch < CLOSED:
                    lease.owner.send(Fenced(order.session, order.epoch, elsewhere=True))
                lease.owner = None
        self._guests.changed(lease)
        return True

    def look(self, now_s: float) -> None:
        """What silence does to sessions: to be called twice a second."""
        with self._mail.lock:
            back = [e for c in self._mail.gateways for e in self._mail.leases.heard(c, c.heard_s, now_s)]
            changed = self._mail.leases.look(now_s)
        self._guests.look(now_s)
        for lease in back:
            self._guests.changed(lease)
            if isinstance(lease.owner, Connection):
                self.tell(lease.owner, lease.session, lease.epoch)
        self._silenced([lease for lease in changed if lease.stage is LeaseStage.SILENT])
        for lease in changed:
            if lease.stage is LeaseStage.STOPPED:
                self._guests.changed(lease)
            elif lease.stage is LeaseStage.OVER:
                log.warning("session %s: no gateway claimed it, it is closed", lease.session)
                lease.closing = True
                self._put(CloseSession(lease.session))

    def gone(self, connection: Connection, why: str | None) -> None:
        """A gateway's connection has ended."""
        with self._mail.lock:
            lost = self._mail.leases.gone(connection)
        if lost or why:
            log.warning(
                "a gateway with %d of the sessions here is gone%s", len(lost), f": {why}" if why else ""
            )
        self._guests.gone(connection)
        self._silenced(lost)

    def _silenced(self, leases: list[Lease]) -> None:
        """Nobody is heard of who holds these: nothing is encoded for their owners, and the other gateways may
        claim them."""
        for lease in leases:
            self._guests.changed(lease)
            for gateway in self._mail.gateways:
                if gateway is not lease.owner and not lease.closing:
                    gateway.send(Orphaned(lease.session, lease.epoch))

    def claim(self, connection: Connection, order: ClaimSession, now_s: float) -> None:
        with self._mail.lock:
            known = self._mail.leases.get(order.session)
            if known is not None and known.closing:
                known = None
            epoch = known.epoch if known else 0
            lease = self._mail.leases.claim(order.session, connection, order.epoch, now_s) if known else None
            granted = lease is not None
            if lease is None and known is not None and known.owner is connection:
                lease = known  # it has claimed it before
            if lease is not None:  # a copy that is only being made is told of once it is open
                lease.awaited = lease.info is None and bool(lease.record)
        if known is None:
            unknown = SessionClosed(order.session, "unknown_session", NO_SESSION, epoch=order.epoch)
            connection.send(unknown)
        elif lease is None:
            connection.send(Fenced(order.session, epoch))
        else:
            if granted:
                self.tell(connection, order.session, order.epoch)
            if not lease.awaited:
                connection.send(self._mail.claimed(lease))
            while lease.missed:
                connection.send(lease.missed.popleft())
            self._guests.claimed(lease)
