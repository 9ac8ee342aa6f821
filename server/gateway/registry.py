"""The sessions of this server: by id and token, how each one ends, and who hears what happens in them.

The parts of the gateway share one registry instead of calling each other. It knows no worker and no clients.
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
    """`places` is how many sessions the running workers take, 0 while none runs.

    Iterating walks over a copy: sessions may end meanwhile. Listeners are called in the order in which they
    were added, on the event loop; one that fails keeps no other from hearing the event."""

    def __init__(self, budgets: Budgets, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._budgets, self._metrics, self._clock = budgets, metrics, clock
        self._by_id: dict[str, GatewaySession] = {}
        self._by_token: dict[str, GatewaySession] = {}
        self._listeners: list[Listener] = []
        self.places = 0
        self.workers: tuple[str, ...] = ()  # their names

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[GatewaySession]:
        return iter(list(self._by_id.values()))

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._by_id

    def of(self, worker: str) -> list[GatewaySession]:
        """Those that this worker runs, or runs again once it is back."""
        return [session for session in self if session.worker == worker]

    def now_s(self) -> float:
        """By the clock that all sessions share."""
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
        """The session that this token steers or watches."""
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
        """End it, whatever the reason. Its viewers hear the reason through the listeners. Idempotent."""
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
        """Sessions that are watched and should move, but have shown nothing new for long; see
        GatewaySession.overdue."""
        now_s = self._clock()
        return [session for session in self if session.overdue(now_s, period_s)]

    def count(self) -> None:
        """Update the gauges. To be called after sessions came, went, stalled or went on."""
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
        """How many there are."""
        return len(self._listeners)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """The result removes the listener; calling it twice is fine."""
        self._listeners.append(listener)

        def remove() -> None:
            with contextlib.suppress(ValueError):
                self._listeners.remove(listener)

        return remove

    def tell(self, session: GatewaySession) -> None:
        """Tell all listeners how this session is now."""
        self.publish(session.current(self._clock()))

    def answer(self, session: GatewaySession, receipt: Receipt) -> None:
        """Remember a final receipt and pass it on, unless its control has been answered before."""
        known = session.answers.get(receipt.id)
        if known is not None and known.status != "received":
            return  # it was submitted again to a new worker, and answered by the old one
        session.remember(receipt)
        since_s = session.received_s.pop(receipt.id, None)
        self._metrics.receipt(receipt, None if since_s is None else self._clock() - since_s)
        self.publish(receipt)

    def publish(self, event: SessionEvent) -> None:
        """Pass an event on as it is."""
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception:  # whatever one listener does wrong, the others hear the event
                log.exception("a listener failed on %s", type(event).__name__)
