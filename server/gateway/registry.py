"""The registry of this server's sessions: look-up by id and token, ending a session, notifying listeners.

The parts of the gateway share one registry instead of calling each other. It knows neither workers nor
clients.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from functools import partial

from engine.errors import Full, UnknownSession
from engine.types import Receipt, SessionClosed, SessionInfo
from server.access.tokens import hash_of
from server.control.base import Listener, SessionEvent
from server.gateway.assignment import Assignments
from server.gateway.budget import Budgets
from server.gateway.session import MAIN, GatewaySession
from server.metrics import Metrics
from server.worker.base import as_error

log = logging.getLogger(__name__)


class Sessions:
    """`places` is how many sessions the running workers accept: 0 while none runs. `on_end` is called with
    each session that ends and the code of the reason, before anybody else hears of it.

    Iteration uses a copy, so sessions may end during it. Listeners are called on the event loop, in the order
    in which they were added. If one fails, the others are still called."""

    def __init__(self, budgets: Budgets, metrics: Metrics, clock: Callable[[], float]) -> None:
        self.budgets, self._metrics, self._clock = budgets, metrics, clock
        self._by_id: dict[str, GatewaySession] = {}
        self._by_hash: dict[str, GatewaySession] = {}  # of a token, also of links that may have expired
        self._assignments = Assignments()
        self._listeners: dict[str | None, list[Listener]] = {}  # session, or None: all of them
        self._with_guests: set[Listener] = set()  # of those of all, which other gateways' too
        self.on_end: Callable[[GatewaySession, str], None] = lambda session, code: None
        self.places = 0
        self.waiting: set[str] = set()  # saved by an earlier gateway, and not resumed yet
        self.main_saved = False  # by another gateway of the cluster: resumed if this one is to have it
        self._show()

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[GatewaySession]:
        return iter(list(self._by_id.values()))

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._by_id

    def of(self, worker: str) -> list[GatewaySession]:
        """The sessions that this worker runs, or will run again after its restart."""
        return self._assignments.of(worker)

    def count(self, worker: str) -> int:
        """How many these are."""
        return self._assignments.count(worker)

    def awake(self, worker: str) -> int:
        """How many of these are watched and not paused."""
        return self._assignments.awake(worker)

    def assign(self, session: GatewaySession, worker: str) -> None:
        """This worker has been asked to run the session. A session that has ended meanwhile stays ended."""
        if self._by_id.get(session.id) is session:
            self._assignments.assign(session, worker, self._clock())

    def now_s(self) -> float:
        """The time on the clock that all sessions share."""
        return self._clock()

    def get(self, session_id: str) -> GatewaySession | None:
        return self._by_id.get(session_id)

    def find(self, session_id: str) -> GatewaySession:
        """Raises UnknownSession, and Full for a saved session that waits for a place."""
        session = self._by_id.get(session_id)
        if session is None and session_id in self.waiting:
            raise Full("this session is saved and waits for a free place: try again in a moment")
        if session is None:
            raise UnknownSession("no session has this id; it may have ended", field="session")
        return session

    def by_token(self, token: str) -> GatewaySession | None:
        """The session that this token may steer or watch. None if there is none."""
        given = hash_of(token)
        session = self._by_hash.get(given)
        if session is None or given in session.token_hashes:
            return session
        return session if session.links.find(given, self._clock()) else None

    def add(self, session: GatewaySession) -> None:
        self._by_id[session.id] = session
        for each in session.token_hashes:
            self._by_hash[each] = session
        session.links.report_to(partial(self._link, session))

    def _link(self, session: GatewaySession, token_hash: str, there: bool) -> None:
        """A link of this session was made, or has ended."""
        if there:
            self._by_hash[token_hash] = session
        elif self._by_hash.get(token_hash) is session:
            del self._by_hash[token_hash]

    def end(
        self, session: GatewaySession, code: str, message: str, lost_frames: tuple[int, ...] = ()
    ) -> None:
        """End a session. Its viewers are told the reason through the listeners. Idempotent."""
        if self._by_id.get(session.id) is not session:
            return
        self.on_end(session, code)
        del self._by_id[session.id]
        self._assignments.remove(session)
        session.links.report_to(None)
        for each in session.token_hashes:
            if self._by_hash.get(each) is session:
                del self._by_hash[each]
        self.budgets.leave(session.client)
        session.refuse(as_error(code, message))
        session.closed.set()
        self.publish(SessionClosed(session.id, code, message, lost_frames=lost_frames))
        session.fanout.close()

    def not_to_resume(self, session_id: str, *, closed: bool) -> None:
        """Another gateway has claimed it since it was saved, and saves it now; or it was `closed`, and its
        gateway was lost before it had deleted it: listeners hear that. `main` is always wanted."""
        if session_id not in self.waiting or session_id == MAIN:
            return
        self.waiting.discard(session_id)
        if closed:
            self.publish(SessionClosed(session_id, "closed", "the session was closed"))

    def _show(self) -> None:
        """The gauges count when somebody reads them."""
        m = self._metrics
        m.sessions.set_function(lambda: len(self))
        m.buffering.set_function(lambda: sum(s.buffering is not None for s in self))
        m.asleep.set_function(lambda: sum(s.asleep for s in self))
        m.slots_free.set_function(lambda: max(0, self.places - len(self)))

    def show_worker(self, worker: str) -> None:
        self._metrics.worker_sessions.labels(worker).set_function(lambda: self.count(worker))

    # ---- listeners ----

    @property
    def listeners(self) -> int:
        """The number of listeners."""
        return sum(map(len, self._listeners.values()))

    def listen(
        self, listener: Listener, session: str | None = None, *, guests: bool = False
    ) -> Callable[[], None]:
        """Add a listener to the events of this session, or of all (None), also of `guests` if wanted. The
        returned function removes it and is idempotent."""
        if guests and session is None:
            self._with_guests.add(listener)
        self._listeners.setdefault(session, []).append(listener)

        def remove() -> None:
            listeners = self._listeners.get(session, [])
            with contextlib.suppress(ValueError):
                listeners.remove(listener)
                self._with_guests.discard(listener)
            if not listeners:
                self._listeners.pop(session, None)

        return remove

    def announce(self, session: GatewaySession) -> None:
        """Send this session's current information to its listeners. Call it after a change of it, such as
        another viewer or a pause."""
        self._assignments.noted(session)
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

    def publish(self, event: SessionEvent, *, guest: bool = False) -> None:
        """Pass an event to all listeners of its session, those of all sessions first. `guest`: it is one of
        another gateway, which is shown here."""
        session = event.id if isinstance(event, SessionInfo) else event.session
        of_all = [each for each in self._listeners.get(None, ()) if not guest or each in self._with_guests]
        for listener in [*of_all, *self._listeners.get(session, ())]:
            try:
                listener(event)
            except Exception:  # one listener's error must not affect the others
                log.exception("a listener failed on %s", type(event).__name__)
