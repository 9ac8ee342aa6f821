"""Sessions of other gateways that this one shows to its own viewers: it is their guest.

It asks its workers for a session; the one that runs it sends news and video as it does to the owner. Controls
of viewers go to the owner through the worker. If a worker loses the session, the others are asked again. A
guest whose last viewer has left leaves. Everything here runs on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

from engine.errors import Full, Unavailable, UnknownSession
from engine.types import Action, Control, OpenSession, Receipt, SessionClosed, SessionInfo, Stall
from engine.wire.controls import check_action
from server.gateway.fleet.fleet import Fleet
from server.gateway.fleet.supervisor import Supervisor
from server.gateway.guests.guest import MOST_PENDING, Guest
from server.gateway.guests.search import ANSWER_S, Search
from server.gateway.opening import Opener
from server.gateway.records.record import read_record
from server.gateway.records.records import Records
from server.gateway.registry import Sessions
from server.gateway.session import MAIN, GatewaySession, new_session
from server.worker.base import TOO_MUCH
from server.worker.messages.commands import RequestKeyframe, SubmitControl
from server.worker.messages.holding import LeaveSession

EVERY_S = 1.0
MOST = 1024  # sessions of other gateways
MOST_NEW = 64  # that workers have not answered about
RENEW_LEAST_S = 0.1
RENEW_S = 5.0  # how soon a token that has ended ends here too
LINGER_S = 30.0  # without viewers
BACK_IN_S = 0.3  # what viewers are told when a worker is lost


class Guests:
    """`shared`: the session `main` needs no tokens. `opener` hears of the viewers of a session that this
    gateway holds now, and that was a guest's."""

    def __init__(
        self, sessions: Sessions, fleet: Fleet, opener: Opener, records: Records, *, shared: bool
    ) -> None:
        self._sessions, self._fleet, self._shared = sessions, fleet, shared
        self._opener, self._records = opener, records
        self._guests: dict[str, Guest] = {}
        self._closed = False
        self.search = Search(fleet, sessions.now_s, lambda guest: self.end(guest, *guest.why))

    def __len__(self) -> int:
        return len(self._guests)

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._guests

    def all(self) -> list[Guest]:
        return list(self._guests.values())

    def of(self, session_id: str | None) -> Guest | None:
        return self._guests.get(session_id or "")

    def watch(self, worker: Supervisor) -> bool:
        """Whether one of them is shown from this worker."""
        return any(guest.worker is worker for guest in self._guests.values())

    async def close(self, code: str, message: str) -> None:
        """End all of them. Idempotent."""
        self._closed = True
        await self.search.close()
        for guest in self.all():
            self.end(guest, code, message)

    # ---- for viewers ----

    async def find(self, session_id: str) -> GatewaySession | None:
        """A session of another gateway that one of this gateway's workers runs. Raises Full."""
        guest = self._guests.get(session_id)
        if guest is None:
            shared = any(worker.outlives_gateway for worker in self._fleet)
            new = sum(not guest.known for guest in self._guests.values())
            if self._closed or session_id in self._sessions or not shared or new >= MOST_NEW:
                return None
            if len(self._guests) >= MOST:
                raise Full(f"this gateway shows {MOST} sessions of others, which is the most")
            guest = self._guests[session_id] = Guest(self._new(session_id))
            self.search.begin(guest, 0.0)
        await guest.settled.wait()
        return guest.session if guest.known else None

    async def shows_main(self) -> bool:
        """Whether another gateway has `main`."""
        return await self.find(MAIN) is not None

    async def renew(self, session_id: str) -> None:
        """Learn its tokens and links again: there may be a new one."""
        guest = self._guests.get(session_id)
        now_s = self._sessions.now_s()
        if guest is None or guest.worker is None or now_s - guest.renewed_s < RENEW_LEAST_S:
            return
        guest.news.clear()
        with contextlib.suppress(TimeoutError, Unavailable):
            self.search.ask(guest, guest.worker)
            async with asyncio.timeout(ANSWER_S):
                await guest.news.wait()

    def get(self, session_id: str) -> GatewaySession | None:
        guest = self._guests.get(session_id)
        return guest.session if guest is not None and guest.known else None

    def submit(self, session_id: str, control: Control) -> Receipt:
        """See Steering. The owner carries it out; it is sent again if the owner may not have got it. Raises
        UnknownSession, InvalidInput, Unavailable."""
        guest = self._guests.get(session_id)
        if guest is None:
            raise UnknownSession("no session has this id; it may have ended", field="session")
        session = guest.session
        known = session.answer_to(control)
        if known is not None:
            return known
        if isinstance(control.body, Action) and session.info.actions:
            check_action(control.body.action, session.info.actions)
        if len(guest.pending) >= MOST_PENDING:
            raise Unavailable(TOO_MUCH)
        guest.pending[control.id] = control
        if guest.worker is not None:  # whoever holds it next must have them in order
            for each in list(guest.pending.values()) if guest.abandoned else [control]:
                guest.worker.try_send(SubmitControl(session_id, each, session.lease_epoch))
        return session.received(control, self._sessions.now_s())

    def announce(self, guest: Guest) -> None:
        self._sessions.publish(guest.session.current(self._sessions.now_s()), guest=True)

    # ---- what becomes of one ----

    def learn(self, guest: Guest, info: SessionInfo, record: bytes) -> tuple[Receipt, ...]:
        """How the session is, and who may use it. Returns its last receipts, if it was known before: some of
        them may have come while it moved."""
        session, now_s = guest.session, self._sessions.now_s()
        known = read_record(record)
        receipts: tuple[Receipt, ...] = ()
        if guest.known:
            receipts = tuple(replace(receipt, session=session.id) for receipt in known.receipts)
            known = replace(known, receipts=())
        session.learn(known.hashes)
        self._records.apply(known, session)
        session.progress.info(info)
        session.changed(replace(info, buffering=None), now_s)
        guest.renewed_s = now_s
        return receipts

    def lost(self, guest: Guest, for_s: float, code: str, message: str) -> None:
        """Its worker doesn't run it any more: perhaps another one does. If none does within `for_s` seconds,
        it has ended, with this code and message."""
        session = guest.session
        guest.worker, guest.why = None, (code, message)
        if for_s and not session.info.paused:
            speed = session.stats.speed if session.stats else 1.0
            session.stall(Stall(speed, 1.0, BACK_IN_S), self._sessions.now_s())
            self.announce(guest)
        self.search.begin(guest, for_s)

    def leave(self, guest: Guest) -> None:
        """Tell its worker that nobody watches here."""
        if guest.worker is not None:
            guest.worker.try_send(LeaveSession(guest.session.id))

    def take(self, session_id: str) -> Guest | None:
        """This gateway holds the session now: it is a guest no more, and goes on with its viewers."""
        guest = self._guests.pop(session_id, None)
        if guest is not None:
            guest.over = True
            guest.settled.set()
        return guest

    def end(self, guest: Guest, code: str, message: str, lost_frames: tuple[int, ...] = ()) -> None:
        """Its viewers are told. Idempotent."""
        session = guest.session
        if self._guests.get(session.id) is not guest:
            return
        del self._guests[session.id]
        self.leave(guest)
        guest.over = True
        guest.settled.set()
        session.closed.set()
        self._sessions.publish(SessionClosed(session.id, code, message, lost_frames=lost_frames), guest=True)
        session.fanout.close()

    async def run(self) -> None:
        """Look after them until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            self.check()

    def check(self) -> None:
        """What time does to them."""
        now_s = self._sessions.now_s()
        for guest in self.all():
            session = guest.session
            unused = not session.fanout.count and now_s - session.used_s > LINGER_S
            if guest.known and unused and session.id != MAIN:  # whose end must be noticed
                self.end(guest, "idle", "nobody watches it here")
            elif guest.worker is not None and now_s - guest.renewed_s >= RENEW_S:
                self._tell(guest)
            elif session.buffering is not None:  # the time that is left
                self.announce(guest)

    # ---- one that begins ----

    def _new(self, session_id: str) -> GatewaySession:
        """Nothing is known of it yet, so nobody may use it but with a key of the server."""
        session = new_session(
            SessionInfo(session_id, "", 0, False, None, 0, 0, 0, 0),
            OpenSession(session_id, None, None),
            shared=self._shared and session_id == MAIN,
            client=None,
            now_s=self._sessions.now_s(),
            on_viewers=lambda viewers: self._viewers_changed(session_id),
            on_keyframe=lambda rendition: self._keyframe(session_id, rendition),
        )
        session.tell_tokens()
        return session

    def _viewers_changed(self, session_id: str) -> None:
        guest = self._guests.get(session_id)
        if guest is None:
            self._opener.viewers_changed(session_id)
            return
        guest.session.watched(self._sessions.now_s())
        self._tell(guest)
        self.announce(guest)

    def _tell(self, guest: Guest) -> None:
        if guest.worker is not None:
            with contextlib.suppress(Unavailable):
                self.search.ask(guest, guest.worker)

    def _keyframe(self, session_id: str, rendition: str) -> None:
        guest = self._guests.get(session_id)
        if guest is None:
            self._opener.keyframe(session_id, rendition)
        elif guest.worker is not None:
            guest.worker.try_send(RequestKeyframe(session_id, rendition))
