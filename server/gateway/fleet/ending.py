"""How sessions end in workers that outlive their gateways: one of them may be out of reach then, or run a
copy that this gateway does not know of."""

from __future__ import annotations

from collections.abc import Iterable

from server.cluster.peers import TAKEN
from server.gateway.fleet.supervisor import Supervisor
from server.gateway.session import MAIN, GatewaySession
from server.worker.endings import Endings
from server.worker.epochs import CLOSED, claimed
from server.worker.messages.commands import CloseSession
from server.worker.messages.holding import EndCopy

MOST = 4096  # sessions


class Ending:
    """`known` has the sessions that have ended, as far as this gateway knows."""

    def __init__(self, workers: Iterable[Supervisor]) -> None:
        self._workers = workers
        self.known = Endings(MOST)

    def close(self, session: GatewaySession, worker: Supervisor) -> None:
        """Let its worker close it for good. One that outlives this gateway remembers that."""
        if worker.outlives_gateway:
            worker.try_send(EndCopy(session.id, CLOSED))
        else:
            worker.try_send(CloseSession(session.id))

    def closed(self, session: GatewaySession) -> None:
        """A client has closed it, and its worker has not said so: perhaps another one runs it. Workers that
        are out of reach are told when they are back."""
        self.known.add(session.id, CLOSED)
        for worker in self._workers:
            if worker.outlives_gateway:
                worker.try_send(EndCopy(session.id, CLOSED))

    def not_needed(self, session: GatewaySession) -> None:
        """The session ends here, and is not to be claimed where its worker was out of reach. A gateway that
        holds it keeps it, unless a client has closed it, or nobody was told that it was opened. `main` is not
        remembered, since it is opened again under its name."""
        if session.id != MAIN:
            unwanted = session.closing or not session.opened.done()
            self.known.add(session.id, CLOSED if unwanted else claimed(session.lease_epoch))

    def session_ended(self, session: GatewaySession, code: str) -> None:
        """To be called when a session ends here."""
        if session.closing or (session.opened.done() and code not in TAKEN):
            self.not_needed(session)
