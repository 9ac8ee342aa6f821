"""The registry of this server's sessions: look-up by id and token, ending a session, notifying listeners.

The parts of the gateway share one registry instead of calling each other. It knows neither workers nor
clients.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator

from engine.errors import UnknownSession
from engine.types import Receipt, SessionClosed
from server.control.base import Listener, SessionEvent
from server.gateway.budget import Budgets
from server.gateway.session import GatewaySession
from server.links import LINK_MARK
from server.metrics import Metrics
from server.worker.base import as_error

log = logging.getLogger(__name__)


class Sessions:
    """`places` is how many sessions the running workers accept: 0 while none runs.

    Iteration uses a copy, so sessions may end during it. Listeners are called on the event loop, in the order
    in which they were added. If one fails, the others are still called."""

    def __init__(self, budgets: Budgets, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._budgets, self._metrics, self._clock = budgets, metrics, clock
        self._by_id: dict[str, GatewaySession] = {}
        self._by_token: dict[str, GatewaySession] = {}
        self._listeners: list[Listener] = []
        self.places = 0
        self.workers: tuple[str, ...] = ()  # the workers' names

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[GatewaySession]:
        return iter(list(self._by_id.values()))

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._by_id

    def of(self, worker: str) -> list[GatewaySession]:
        """The sessions that this worker runs, or will run again after its restart."""
        return [session for session in self if session.worker == worker]

    def now_s(self) -> float:
        """The time on the clock that all sessions share."""
        return self._clock()

    def get(self, session_id: str) -> GatewaySession | None:
        return self._by_id.get(session_id)

    def find(self, session_id: str) -> GatewaySession:
        """Raises UnknownSession."""
        session = self._by_id.get(session_id)
        if session is None:
            raise UnknownSession("no session has this id; it may have ended", field="session")
        return session

    def by_token(self, token: str) -> GatewaySession | None:
        """The session that this token may steer or watch. None if there is none."""
        session = self._by_token.get(token)
        if session is None and token.startswith(LINK_MARK):
            now_s = self._clock()
            return next((s for s in self._by_id.values() if s.links.find(token, now_s)), None)
        return session

    def add(self, session: GatewaySession) -> None:
        self._by_id[session.id] = session
        for token in session.tokens:
            self._by_token[token] = session
        self.count()

    def end(self, session: GatewaySession, code: str, message: str) -> None:
        """End a session. Its viewers are told the reason through the listeners. Idempotent."""
        if self._by_id.get(session.id) is not session:
            return
        del self._by_id[session.id]
        for token in session.tokens:
            del self._by_token[token]
        self._budgets.leave(session.client)
        session.refuse(as_error(code, message))
        session.closed.set()
        self.publish(SessionClosed(session.id, code, message))
        session.fanout.close()
        self.count()

    def overdue(self, period_s: float) -> list[GatewaySession]:
        """Sessions that are watched and not paused, but have shown nothing new for too long; see
        GatewaySession.overdue."""
        now_s = self._clock()
        return [session for session in self if session.overdue(now_s, period_s)]

    def count(self) -> None:
        """Update the gauges. Call it after a session was opened or ended, or began or ended a stall."""
        self._metrics.sessions.set(len(self))
        workers = Counter(session.worker for session in self)
        for name in self.workers:
            self._metrics.worker_sessions.labels(name).set(workers[name])
        self._metrics.buffering.set(sum(s.buffering is not None for s in self))
        self._metrics.asleep.set(sum(s.asleep for s in self))
        self._metrics.slots_free.set(max(0, self.places - len(self)))

    # ---- listeners ----

    @property
    def listeners(self) -> int:
        """The number of listeners."""
        return len(self._listeners)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Add a listener. The returned function removes it and is idempotent."""
        self._listeners.append(listener)

        def remove() -> None:
            with contextlib.suppress(ValueError):
                self._listeners.remove(listener)

        return remove

    def announce(self, session: GatewaySession) -> None:
        """Send this session's current information to all listeners."""
        self.publish(session.current(self._clock()))

    def answer(self, session: GatewaySession, receipt: Receipt) -> None:
        """Store a final receipt and pass it on, unless its control has already been answered."""
        known = session.answers.get(receipt.id)
        if known is not None and known.status != "received":
            return  # answered by the old worker, then submitted again to the new one
        session.remember(receipt)
        since_s = session.received_s.pop(receipt.id, None)
        self._metrics.receipt(receipt, None if since_s is None else self._clock() - since_s)
        self.publish(receipt)

    def publish(self, event: SessionEvent) -> None:
        """Pass an event to all listeners."""
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception:  # one listener's error must not affect the others
                log.exception("a listener failed on %s", type(event).__name__)
