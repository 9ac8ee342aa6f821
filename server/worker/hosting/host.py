"""The worker's end of its connections: gateways come and go, the device runs on.

The event loop of the worker's process greets gateways, reads orders and writes events; orders are carried
out on a thread of their own, since they may wait for the device. A session belongs to one gateway at a time
(see leases); what is said of it goes there and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from engine.errors import InvalidInput, PsistreamError, Unavailable
from engine.types import OpenSession, SessionClosed
from server.tasks import Tasks
from server.worker.base import BEAT_S, Alive, Order, RestoreSession, WorkerLost
from server.worker.core import Emit, WorkerCore
from server.worker.hosting.leases import RECORD_BYTES, Lease, LeaseStage
from server.worker.hosting.mail import Mail
from server.worker.hosting.orders import Orders, refusal
from server.worker.messages import (
    Claimed,
    ClaimSession,
    CloseSession,
    Fenced,
    KeepRecord,
    Orphaned,
    SetViewers,
    Stop,
    WorkerReady,
)
from server.worker.wire import handshake
from server.worker.wire.checks import check
from server.worker.wire.connection import Connection
from server.worker.wire.schema import ORDERS, GreetingRefused, Welcome

log = logging.getLogger(__name__)

MAX_GATEWAYS, MAX_STRANGERS = 16, 16
MAX_TEXT = 2000
LEAVE_S = 1.0  # for an orderly end
NO_SESSION = "no session has this id; it may have ended"


class Host:
    """`private`: it has one gateway, which started it, and ends with that one's connection. `run` returns
    when it is over: None, or what is broken."""

    def __init__(self, key: bytes, *, private: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._key, self._private, self._clock = key, private, clock
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[WorkerReady] = self._loop.create_future()
        self._over: asyncio.Future[str | None] = self._loop.create_future()
        self._core: WorkerCore | None = None
        self.mail = Mail(clock, self._put, lambda why: self._later(partial(self.end, why)))
        self._strangers = 0
        self._orders: Orders | None = None
        self._slowed: set[Connection] = set()  # read again once fewer orders wait
        self._tasks = Tasks()

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
        self._ready.set_result(core.ready)
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

    def connection(self) -> Connection:
        """For a gateway that has just connected."""
        connection = Connection(lambda why: self._ended(connection, why), self._clock)
        if self._strangers >= MAX_STRANGERS:
            self._loop.call_soon(connection.abort)
        else:
            self._strangers += 1
            self._tasks.spawn(self._greet(connection), "greet")
        return connection

    async def _greet(self, connection: Connection) -> None:
        try:
            answer, expected = handshake.challenge(self._key, await connection.receive())
            connection.send(answer)
            handshake.check(expected, await connection.receive())
            ready = await asyncio.shield(self._ready)
            if len(self.mail.gateways) >= MAX_GATEWAYS:
                raise Unavailable(f"the worker has {MAX_GATEWAYS} gateways, which is the most")
        except PsistreamError as error:
            if not connection.ended:
                # why a model cannot be loaded is reported by the gateway, and by `psistream worker`
                loading = self._ready.done() and not self._ready.cancelled() and self._ready.exception()
                if loading is not error:
                    log.warning("%s was refused: %s", connection.peer, error.message)
                connection.send(GreetingRefused(error.code, error.message[:MAX_TEXT]))
                connection.close()
            return
        finally:
            self._strangers -= 1
        if connection.ended:
            return
        connection.open(ORDERS, partial(self._heard, connection), ready)
        self.mail.gateways |= {connection}
        orphans = tuple(Orphaned(e.session, e.epoch) for e in self.mail.leases if e.stage or e.owner is None)
        connection.send(Welcome(ready, orphans))
        if self.mail.capacity is not None:
            connection.send(self.mail.capacity)

    def _ended(self, connection: Connection, why: str | None) -> None:
        if connection not in self.mail.gateways:
            return
        self.mail.gateways -= {connection}
        if self._private:
            self.end()
            return
        with self.mail.lock:
            lost = self.mail.leases.gone(connection)
        if lost or why:
            log.warning("a gateway of %d sessions is gone%s", len(lost), f": {why}" if why else "")
        self._silenced(lost)

    # ---- leases ----

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            self.look()

    def look(self) -> None:
        """What silence does to sessions: to be called twice a second."""
        if self._private:
            return
        now_s = self._clock()
        with self.mail.lock:
            back = [e for c in self.mail.gateways for e in self.mail.leases.heard(c, c.heard_s, now_s)]
            changed = self.mail.leases.look(now_s)
        for lease in back:
            self._put(lease.viewers or SetViewers(lease.session, {}))
        self._silenced([lease for lease in changed if lease.stage is LeaseStage.SILENT])
        for lease in changed:
            if lease.stage is LeaseStage.STOPPED:
                self._put(SetViewers(lease.session, {}, throttled=True))
            elif lease.stage is LeaseStage.OVER:
                log.warning("session %s: no gateway claimed it, it is closed", lease.session)
                self._put(CloseSession(lease.session))

    def _silenced(self, leases: list[Lease]) -> None:
        """Nobody is heard of who holds these: nothing is encoded, and the other gateways may claim them."""
        for lease in leases:
            self._put(SetViewers(lease.session, {}))
            for gateway in self.mail.gateways:
                if gateway is not lease.owner:
                    gateway.send(Orphaned(lease.session, lease.epoch))

    def _claim(self, connection: Connection, order: ClaimSession) -> None:
        with self.mail.lock:
            known = self.mail.leases.get(order.session)
            before, epoch = (known.owner, known.epoch) if known else (None, 0)
            lease = self.mail.leases.claim(order.session, connection, order.epoch, self._clock())
        if known is None:
            connection.send(SessionClosed(order.session, "unknown_session", NO_SESSION))
        elif lease is None:
            connection.send(Fenced(order.session, epoch))
        else:
            if isinstance(before, Connection) and before is not connection and not before.ended:
                before.send(Fenced(order.session, order.epoch))
            connection.send(Claimed(order.session, lease.epoch, lease.info, lease.record))

    # ---- orders ----

    def _heard(self, connection: Connection, order: Any) -> None:
        try:
            self._take(connection, order)
        except InvalidInput as error:
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
            case ClaimSession():
                self._claim(connection, order)
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
            known = self.mail.leases.get(session)
            fits = (opening.fork_of is None or source is not None) and self.mail.leases.open(
                session, connection, epoch, self._clock()
            )
            lease = self.mail.leases.get(session)
            if fits and known is not None:
                begun = self.mail.waiting.setdefault(session, [])
                begun[:] = [order]  # once the old one has ended
        if opening.fork_of is not None and source is None:
            connection.send(SessionClosed(session, "unknown_session", NO_SESSION, "fork_of"))
        elif not fits:
            connection.send(Fenced(session, known.epoch if known else 0))
        else:
            if lease is not None and isinstance(order, RestoreSession):
                lease.viewers = next((each for each in order.then if isinstance(each, SetViewers)), None)
            self._put(order if known is None else CloseSession(session), connection)

    def _order(self, connection: Connection, order: Any) -> None:
        with self.mail.lock:
            known, lease = (
                self.mail.leases.get(order.session),
                self.mail.leases.owned(order.session, connection),
            )
        if lease is None:
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
        with self.mail.lock:
            if (waiting := self.mail.waiting.get(order.session)) is not None:
                waiting.append(order)
                return
        self._put(order, connection)

    def _put(self, order: Order, connection: Connection | None = None) -> None:
        assert self._orders is not None
        if not self._orders.put(order) and connection is not None:
            self._slowed.add(connection)
            connection.pause_reading()

    def _read_again(self) -> None:
        waiting, self._slowed = self._slowed, set()
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
