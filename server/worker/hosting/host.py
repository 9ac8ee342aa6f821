"""The worker's end of its connections: gateways come and go, the device runs on.

The event loop of the worker's process greets gateways, reads orders and writes events; orders are carried
out on a thread of their own, since they may wait for the device. A session belongs to one gateway at a time
(see leases); others may show it too (see guests).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

from engine.errors import InvalidInput, PsistreamError, Unavailable
from engine.types import OpenSession, SessionClosed
from server.tasks import Tasks
from server.worker.base import BEAT_S, Alive, Order, RestoreSession, WorkerLost
from server.worker.core import Emit, WorkerCore
from server.worker.hosting.custody import Custody
from server.worker.hosting.guests import NO_SESSION, GuestGateways
from server.worker.hosting.leases import RECORD_BYTES
from server.worker.hosting.mail import Mail
from server.worker.hosting.orders import Orders, refusal
from server.worker.messages.commands import CloseSession, MeasureCodec, SetViewers, Stop, SubmitControl
from server.worker.messages.events import Stalled, WorkerReady
from server.worker.messages.holding import (
    Answered,
    ClaimSession,
    EndCopy,
    Fenced,
    KeepRecord,
    LeaveSession,
    Moved,
    WatchSession,
)
from server.worker.wire.checks import check
from server.worker.wire.connection import Connection, largest
from server.worker.wire.entrance import Entrance, refuse
from server.worker.wire.schema import ORDERS

log = logging.getLogger(__name__)

MAX_GATEWAYS, MAX_STRANGERS = 64, 16
LEAVE_S = 1.0  # for an orderly end


class Host:
    """`private`: it has one gateway, which started it, and ends with that one's connection. `most` is how
    many gateways may be connected. `run` returns when it is over: None, or what is broken."""

    def __init__(
        self,
        key: bytes,
        *,
        private: bool,
        most: int = MAX_GATEWAYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._private, self._most, self._clock = private, most, clock
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[WorkerReady] = self._loop.create_future()
        self._over: asyncio.Future[str | None] = self._loop.create_future()
        self._core: WorkerCore | None = None
        self.mail = Mail(clock, self._put, lambda why: self._later(partial(self.end, why)))
        self._guests = GuestGateways(self.mail, self._put)
        self._custody = Custody(self.mail, self._guests, self._put)
        self._orders: Orders | None = None
        self._slowed: dict[Connection, None] = {}  # read again once fewer orders wait
        self._tasks = Tasks()
        strangers = most + MAX_STRANGERS  # all gateways may come back at once
        self.entrance = Entrance(key, strangers, self._admit, self._ended, self._tasks, clock=clock)

    # ---- life ----

    async def run(self, make_core: Callable[[Emit], WorkerCore]) -> str | None:
        """Load the model and serve. Raises the PsistreamError that stopped it, after gateways were told."""
        try:
            core = await asyncio.to_thread(make_core, self.mail.emit)
        except PsistreamError as error:
            self._ready.set_exception(error)
            self._ready.exception()
            await self._tasks.drain(1.0)
            raise
        self._core = core
        self._orders = Orders(
            core.handle,
            lambda why: self.mail.emit(WorkerLost(why)),
            lambda: self._later(self._read_again),
        )
        self._ready.set_result(replace(core.ready, instance=secrets.token_hex(8)))
        self._tasks.spawn(self._look(), "leases")
        why = await self._over
        await self._tasks.close()
        await asyncio.sleep(0)  # what was posted last is written
        for connection in self.mail.gateways:
            connection.close()
        return why

    def end(self, why: str | None = None) -> None:
        """On the event loop. Idempotent."""
        if not self._over.done():
            self._over.set_result(why)

    async def _admit(self, connection: Connection) -> None:
        """A gateway has proved the key. It waits for the model. Raises Unavailable."""
        try:
            ready = await asyncio.shield(self._ready)
        except PsistreamError as error:
            if not connection.ended:  # why it cannot be loaded is told by the gateway, and `psistream worker`
                refuse(connection, error, quietly=True)
            return
        if len(self.mail.gateways) >= self._most:
            raise Unavailable(
                f"the worker has {self._most} gateways, which is the most: start it with a larger "
                "--max-gateways"
            )
        if connection.ended:
            return
        connection.open(ORDERS, partial(self._heard, connection), largest(ready))
        self.mail.gateways += (connection,)
        self._custody.welcome(connection, ready)
        if self.mail.capacity is not None:
            connection.send(self.mail.capacity)

    def _ended(self, connection: Connection, why: str | None) -> None:
        if connection not in self.mail.gateways:
            return
        self.mail.gateways = tuple(each for each in self.mail.gateways if each is not connection)
        if self._private:
            self.end()
            return
        self._custody.gone(connection, why)

    # ---- leases ----

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            self.look()

    def look(self) -> None:
        """What silence does to sessions: to be called twice a second."""
        if not self._private:
            self._custody.look(self._clock())

    # ---- orders ----

    def _heard(self, connection: Connection, order: Any) -> None:
        try:
            if isinstance(order, RestoreSession):
                order = replace(order, then=tuple(filter(partial(self._fits, connection), order.then)))
            self._take(connection, order)
        except InvalidInput as error:
            self._refuse(connection, order, error)

    def _fits(self, connection: Connection, order: Any) -> bool:
        """Whether what is to follow a restored session may be carried out. A control of one client that may
        not is refused alone: the session goes on without it."""
        assert self._core is not None
        try:
            if isinstance(order, SubmitControl):
                check(order, self._core.ready)
        except InvalidInput as error:
            self._refuse(connection, order, error)
            return False
        return True

    def _refuse(self, connection: Connection, order: Any, error: InvalidInput) -> None:
        log.warning("%s sent an order that is refused: %s", connection.peer, error.message)
        if answer := refusal(order, error):
            connection.send(answer)

    def _take(self, connection: Connection, order: Any) -> None:
        assert self._core is not None
        check(order, self._core.ready)
        match order:
            case Alive():
                pass
            case Stop():
                if self._private:
                    self.end()
            case MeasureCodec():
                self._put(order, connection)
            case ClaimSession():
                self._custody.claim(connection, order, self._clock())
            case EndCopy(session):
                if self._custody.end(connection, order):
                    self._carry_out(connection, CloseSession(session))
            case OpenSession():
                self._open(connection, order.session, 1, order)
            case RestoreSession(opening, epoch=epoch):
                self._open(connection, opening.session, epoch, order)
            case _:
                self._order(connection, order)

    def _open(
        self, connection: Connection, session: str, epoch: int, order: OpenSession | RestoreSession
    ) -> None:
        opening = order.opening if isinstance(order, RestoreSession) else order
        with self.mail.lock:
            source = self.mail.leases.owned(opening.fork_of, connection) if opening.fork_of else None
            known, least = self.mail.leases.get(session), self._custody.epoch(session)
            fits = opening.fork_of is None or source is not None
            fits = fits and epoch >= least
            fits = fits and self.mail.leases.open(session, connection, epoch, self._clock())
            lease = self.mail.leases.get(session)
            if fits and known is not None:
                begun = self.mail.waiting.setdefault(session, [])
                begun[:] = [order]  # once the old one has ended
                self._put(CloseSession(session), connection)  # now: it may have just ended by itself
        if opening.fork_of is not None and source is None:
            connection.send(SessionClosed(session, "unknown_session", NO_SESSION, "fork_of"))
        elif not fits:
            self._custody.refuse(connection, session, known)
        else:
            self._custody.tell(connection, session, epoch)
            if lease is not None and isinstance(order, RestoreSession):
                lease.viewers = next((each for each in order.then if isinstance(each, SetViewers)), None)
                lease.told = None
            if known is None:
                self._put(order, connection)
            if lease is not None and lease.told is None:
                self._guests.changed(lease)

    def _order(self, connection: Connection, order: Any) -> None:
        with self.mail.lock:
            known, lease = (
                self.mail.leases.get(order.session),
                self.mail.leases.owned(order.session, connection),
            )
        if known is not None and isinstance(order, SubmitControl) and order.epoch not in (0, known.epoch):
            return  # those before it may not have come to who holds it now
        if lease is None:
            if self._guests.take(connection, order):
                return
            gone = InvalidInput(NO_SESSION)
            gone.code = "unknown_session"
            if answer := Fenced(order.session, known.epoch) if known else refusal(order, gone):
                connection.send(answer)
            return
        match order:
            case KeepRecord(record=record):
                lease.record = record[:RECORD_BYTES]
                return
            case SetViewers():
                lease.viewers = order
                self._guests.changed(lease, connection)
                return
            case Answered() | Moved() | Stalled():
                self._guests.relay(lease, order)
                return
            case CloseSession():
                lease.closing = True
            case WatchSession() | LeaveSession():
                self._guests.take(connection, order)
                return
        self._carry_out(connection, order)

    def _carry_out(self, connection: Connection, order: Any) -> None:
        """Now, or once an older copy of its session has ended."""
        with self.mail.lock:
            if (waiting := self.mail.waiting.get(order.session)) is not None:
                waiting.append(order)
                return
        self._put(order, connection)

    def _put(self, order: Order, connection: Connection | None = None) -> None:
        assert self._orders is not None
        if not self._orders.put(order) and connection is not None:
            self._slowed[connection] = None
            connection.pause_reading()

    def _read_again(self) -> None:
        waiting, self._slowed = self._slowed, {}
        for connection in waiting:
            connection.resume_reading()

    # ---- from any thread ----

    def _later(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(call)


def leave(core: WorkerCore, exitcode: int) -> NoReturn:
    """End this process, even if the device hangs."""
    threading.Timer(LEAVE_S, os._exit, (exitcode,)).start()
    core.close()
    os._exit(exitcode)
