"""Takes over sessions that a worker still runs, though their gateway is gone, or was for a while.

A worker that listens outlives its gateways and tells which of its sessions nobody holds. Those that this
gateway has lost are resumed as they run; those that it has moved elsewhere meanwhile are ended there; those
that it doesn't know are claimed, with the record that their last gateway left.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from dataclasses import replace
from typing import Any

from engine.errors import Full, Unavailable
from engine.types import OpenSession, Receipt
from server.gateway.budget import Budgets
from server.gateway.failover import Failover
from server.gateway.fleet.supervisor import Supervisor
from server.gateway.opening import Opener
from server.gateway.registry import Sessions
from server.gateway.session import GatewaySession
from server.worker.messages import Claimed, ClaimSession, CloseSession, KeepRecord, Orphaned

log = logging.getLogger(__name__)

CLAIM_S = 5.0
RECEIPTS = 64  # the last ones, which a record holds
MAX_TEXT = 256


class Adoption:
    """Everything here runs on the event loop."""

    def __init__(self, sessions: Sessions, opener: Opener, failover: Failover, budgets: Budgets) -> None:
        self._sessions, self._opener, self._failover = sessions, opener, failover
        self._budgets = budgets
        self._claims: dict[tuple[str, str], asyncio.Event] = {}  # worker and session → set when answered
        self._records: dict[str, bytes] = {}  # session → the record that its worker has

    async def worker_up(self, worker: Supervisor) -> None:
        """Returns once the worker has answered all claims."""
        for session, epoch in worker.orphans.items():
            self.orphaned(worker, Orphaned(session, epoch))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLAIM_S):
                for (name, _), answered in list(self._claims.items()):
                    if name == worker.name:
                        await answered.wait()

    def orphaned(self, worker: Supervisor, event: Orphaned) -> None:
        """Nobody holds this session."""
        session = self._sessions.get(event.session)
        if session is None:
            self._claims[worker.name, event.session] = asyncio.Event()
            worker.try_send(ClaimSession(event.session, event.epoch + 1))
        elif session.worker != worker.name:  # it runs elsewhere now: nobody needs this one
            worker.try_send(ClaimSession(event.session, max(session.lease_epoch, event.epoch + 1)))
            worker.try_send(CloseSession(event.session))
        elif session.opened.done():
            with contextlib.suppress(Unavailable):
                self._failover.resume(session, worker, event.epoch + 1)

    def claimed(self, worker: Supervisor, event: Claimed) -> None:
        """The worker gave the session to this gateway."""
        session = self._sessions.get(event.session)
        if session is not None:
            if session.worker == worker.name and event.info is not None:
                session.resuming = False
                session.progress.info(event.info)
                session.changed(event.info, self._sessions.now_s())
                self._sessions.announce(session)
            return
        if event.info is None:
            worker.try_send(CloseSession(event.session))
        elif (worker.name, event.session) in self._claims:
            self._adopt(worker, event)
        self.answered(worker, event.session)

    def answered(self, worker: Supervisor, session: str) -> None:
        """A claim was granted, or refused."""
        if (claim := self._claims.pop((worker.name, session), None)) is not None:
            claim.set()

    def _adopt(self, worker: Supervisor, event: Claimed) -> None:
        assert event.info is not None
        known, client = read_record(event.record), None
        with contextlib.suppress(Full):  # its client may have used up its share: then nobody is charged
            client = known.get("client")
            self._budgets.enter(client)
        origin = OpenSession(event.session, event.info.prompt, event.info.seed)
        session = self._opener.enter(origin, client, known.get("token"), known.get("view_token"))
        session.lease_epoch = event.epoch
        session.assigned(worker.name, self._sessions.now_s())
        for receipt in known.get("receipts", []):
            session.remember(replace(receipt, session=session.id))
        session.progress.info(event.info)
        session.changed(event.info, self._sessions.now_s())
        worker.try_send(session.audience())
        self._sessions.count()
        log.warning("session %s: taken over from another gateway", session.id)

    def record(self, session: GatewaySession, worker: Supervisor) -> None:
        """Let the worker keep what the next gateway must know: to be called when that may have changed."""
        if not worker.outlives_gateway or session.orphaned or not session.opened.done():
            self._records.pop(session.id, None)
            return
        record = record_of(session)
        if self._records.get(session.id) != record:
            self._records[session.id] = record
            worker.try_send(KeepRecord(session.id, record))

    def forget(self) -> None:
        """Sessions that have ended need no record: to be called now and then."""
        self._records = {name: record for name, record in self._records.items() if name in self._sessions}


def record_of(session: GatewaySession) -> bytes:
    """Its tokens, whom it is charged to, and its last receipts. Bounded: see RECEIPTS, MAX_TEXT."""
    answers = list(session.answers.values())[-RECEIPTS:]
    receipts = [[r.id, r.status, r.segment, r.frame, r.code, (r.message or "")[:MAX_TEXT]] for r in answers]
    about = {"token": session.token, "view_token": session.view_token, "client": session.client}
    return json.dumps({**about, "receipts": receipts}).encode()


def read_record(record: bytes) -> dict[str, Any]:
    """The fields that are as `record_of` writes them; a worker is not trusted with more."""
    try:
        found = json.loads(record)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    known: dict[str, Any] = {}
    for name in ("token", "view_token", "client"):
        if isinstance(value := found.get(name), str) and 0 < len(value) <= MAX_TEXT:
            known[name] = value
    rows = found.get("receipts")
    known["receipts"] = [
        receipt for row in (rows if isinstance(rows, list) else [])[:RECEIPTS] if (receipt := _receipt(row))
    ]
    return known


def _receipt(row: Any) -> Receipt | None:
    match row:
        case [str(name), ("received" | "applied" | "rejected") as status, segment, frame, code, message]:
            first = [n if isinstance(n, int) else None for n in (segment, frame)]
            why = [t if isinstance(t, str) and t else None for t in (code, message)]
            return Receipt("", name, status, first[0], first[1], why[0], why[1])
    return None
