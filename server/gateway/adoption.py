"""Takes over sessions that a worker still runs, though their gateway is gone, or was for a while.

A worker that listens outlives its gateways and tells which of its sessions nobody holds. Those that this
gateway has lost are resumed as they run; those that it doesn't know are claimed, with the record that their
last gateway left. If two workers run a session, the copy with the higher epoch is right and the other one is
ended: it was moved, or restored elsewhere while its worker was out of reach. So it is too where a network was
divided, and two gateways went on with a copy each: workers tell all their gateways who holds what, and what
has been closed, so at least one of the two hears of the other copy.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from engine.errors import Unavailable
from engine.types import OpenSession, SessionClosed
from server.gateway.failover import Failover
from server.gateway.fleet.fleet import Fleet
from server.gateway.fleet.offers import Offers
from server.gateway.fleet.supervisor import Supervisor
from server.gateway.guests.guest import go_on_without
from server.gateway.guests.guests import Guests
from server.gateway.opening import FENCED, HeldElsewhere, Opener
from server.gateway.records.record import read_record
from server.gateway.records.records import Records
from server.gateway.registry import Sessions
from server.gateway.session import GatewaySession
from server.worker.epochs import CLOSED, claimed, rank, same_copy
from server.worker.messages.commands import CloseSession, SubmitControl
from server.worker.messages.holding import Claimed, ClaimSession, EndCopy, Fenced, Orphaned

log = logging.getLogger(__name__)

CLAIM_S = 5.0


@dataclass
class _Claim:
    """What was asked of one worker, with which epoch. `beaten` is the rank of a copy that another gateway
    holds elsewhere."""

    epoch: int
    beaten: tuple[int, str] = (0, "")
    answered: asyncio.Event = field(default_factory=asyncio.Event)


class Adoption:
    """Everything here runs on the event loop. `may_claim` says whether a session may be claimed from its last
    gateway now; `on_adopted` is called when one has been."""

    def __init__(
        self,
        sessions: Sessions,
        fleet: Fleet,
        opener: Opener,
        failover: Failover,
        records: Records,
        guests: Guests,
    ) -> None:
        self._sessions, self._fleet, self._opener, self._failover = sessions, fleet, opener, failover
        self._records, self._guests = records, guests
        self._claims: dict[str, dict[str, _Claim]] = {}  # session → worker → what was asked of it
        self._offers = Offers()
        self.may_claim: Callable[[str], bool] = lambda session: True
        self.on_adopted: Callable[[], None] = lambda: None

    async def answers_of(self, worker: Supervisor) -> None:
        """Returns once the worker has answered all claims."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLAIM_S):
                for claims in list(self._claims.values()):
                    if claim := claims.get(worker.name):
                        await claim.answered.wait()

    def orphaned(self, worker: Supervisor, event: Orphaned) -> None:
        """Nobody holds this session."""
        session, ended = self._sessions.get(event.session), self._fleet.ending.known.epoch(event.session)
        newer = max(ended, self._shown_elsewhere(worker, event.session, event.epoch))
        if event.epoch < newer:
            worker.try_send(EndCopy(event.session, newer))
        elif session is None or (not session.opened.done() and event.epoch >= session.lease_epoch):
            self._claim(worker, event)
        elif session.worker == worker.name:
            if session.opened.done():
                with contextlib.suppress(Unavailable):
                    self._failover.resume(session, worker, claimed(event.epoch))
        elif session.opened.done() and self._is_newer(worker, event.epoch, session):
            self._follow(session, worker, event.epoch)
        else:
            worker.try_send(EndCopy(event.session, max(session.lease_epoch, claimed(event.epoch))))

    def _shown_elsewhere(self, worker: Supervisor, session: str, epoch: int) -> int:
        """The epoch below which this worker's copy is not needed, since viewers of this gateway see a newer
        one that another gateway holds; 0: they do not."""
        guest = self._guests.of(session)
        if guest is None or guest.worker is None or guest.worker is worker:
            return 0
        shown = guest.session.lease_epoch
        return max(shown, claimed(epoch)) if _rank(guest.worker, shown) > _rank(worker, epoch) else 0

    def _is_newer(self, worker: Supervisor, epoch: int, session: GatewaySession) -> bool:
        """Whether the copy in this worker is right, and not the one of this gateway."""
        return _rank(worker, epoch) > self.rank(session)

    def rank(self, session: GatewaySession) -> tuple[int, str]:
        """That of this gateway's copy. Of two copies the one with the higher rank is right."""
        own = self._fleet.get(session.worker)
        runs = own is not None and not session.orphaned
        return _rank(own, session.lease_epoch) if own and runs else rank(session.lease_epoch, "")

    def _follow(self, session: GatewaySession, worker: Supervisor, epoch: int) -> None:
        """This worker runs a newer copy, with this epoch. The other one will not be needed."""
        other = self._fleet.of(session)
        go_on_without(session, session.apart)
        with contextlib.suppress(Unavailable):
            self._failover.resume(session, worker, claimed(epoch))
            self._sessions.assign(session, worker.name)
            other.try_send(EndCopy(session.id, session.lease_epoch))

    def _claim(self, worker: Supervisor, event: Orphaned) -> None:
        """Claim a session that is not known here, now or once that may be done."""
        if not (self.may_claim(event.session) and self._ask(worker, event)):
            self._offers.defer(worker, event)

    def _ask(self, worker: Supervisor, event: Orphaned) -> bool:
        """Whether the worker was asked for it."""
        claims = self._claims.get(event.session, {})
        if worker.name in claims and claims[worker.name].epoch > event.epoch:
            return True  # it was told twice
        claim = _Claim(claimed(event.epoch), max((c.beaten for c in claims.values()), default=(0, "")))
        try:
            worker.send(ClaimSession(event.session, claim.epoch))
        except Unavailable:  # it may have been lost since it told
            return False
        self._claims.setdefault(event.session, {})[worker.name] = claim
        return True

    def claim_deferred(self) -> None:
        """Claim what may be claimed by now. If its gateway has resumed it meanwhile, the claim is refused."""
        for worker, event in self._offers.take():
            if worker.ready is not None:  # otherwise it tells again what nobody holds, when it is back
                self.orphaned(worker, event)

    def claimed(self, worker: Supervisor, event: Claimed) -> None:
        """The worker gave the session to this gateway."""
        session = self._sessions.get(event.session)
        claim = self._answered(worker, event.session, event.epoch)
        opens = session is not None and not session.opened.done() and session.lease_epoch < event.epoch
        if session is not None and opens and claim is not None and event.info is not None:
            self._open_no_other(session, worker, event.epoch)
            session = None
        if session is not None and session.worker == worker.name:
            if session.opened.done() and event.epoch > session.lease_epoch:
                # claimed before it was restored here, which is refused then: what runs is newer
                with contextlib.suppress(Unavailable):
                    self._failover.resume(session, worker, claimed(event.epoch))
            elif event.info is not None:
                session.resuming = False
                self._come_so_far(session, worker, event)
                session.changed(event.info, self._sessions.now_s())
                self._sessions.announce(session)
        elif event.info is None:
            worker.try_send(CloseSession(event.session))
        elif claim is not None:
            ended = self._fleet.ending.known.epoch(event.session)
            ended = max(ended, self._shown_elsewhere(worker, event.session, event.epoch))
            fits = session is None or (session.opened.done() and self._is_newer(worker, event.epoch, session))
            if not fits or claim.beaten > _rank(worker, event.epoch) or event.epoch < ended:
                worker.try_send(EndCopy(event.session, max(ended, claim.beaten[0], claimed(event.epoch))))
            elif session is not None:
                self._follow(session, worker, event.epoch)
            else:
                self._adopt(worker, event)

    def _open_no_other(self, session: GatewaySession, worker: Supervisor, epoch: int) -> None:
        """`main` is being opened, and runs in this worker already."""
        own = self._fleet.get(session.worker)
        if own is not None and own is not worker:
            own.try_send(EndCopy(session.id, epoch))
        session.declined(HeldElsewhere())
        self._sessions.end(session, Unavailable.code, FENCED)

    def _come_so_far(self, session: GatewaySession, worker: Supervisor, event: Claimed) -> None:
        """Its numbers must not go back, even if it has to continue elsewhere before the next segment."""
        assert event.info is not None
        session.progress.info(event.info)
        if event.segment >= 0:
            after = event.segment + 1, event.frame + worker.frames_per_segment
            session.progress.claimed(*after, event.media_90k, self._sessions.now_s())

    def fenced(self, worker: Supervisor, event: Fenced) -> None:
        """Another gateway holds the session in this worker, or it has been closed for good. If there is
        another copy here, the older one ends."""
        self._answered(worker, event.session, event.epoch)
        session, endings = self._sessions.get(event.session), self._fleet.ending.known
        if event.epoch >= CLOSED:
            endings.add(event.session, CLOSED)
        elif endings.epoch(event.session) >= CLOSED:  # if it ended here for another reason, it goes on there
            worker.try_send(EndCopy(event.session, CLOSED))
        if event.elsewhere and (session is None or session.worker != worker.name):
            return  # it has left that worker
        if session is None:
            self._sessions.not_to_resume(event.session, closed=event.epoch >= CLOSED)
            self._offers.held(worker, event)
            for other in self._claims.get(event.session, {}).values():
                other.beaten = max(other.beaten, _rank(worker, event.epoch))
        elif event.epoch < CLOSED and session.worker == worker.name:
            self._fenced_here(session, worker, event.epoch)
        elif self._is_newer(worker, event.epoch, session):
            self._end_own(session, event.epoch)
        else:
            worker.try_send(EndCopy(session.id, max(session.lease_epoch, claimed(event.epoch))))

    def other_copy(self, session_id: str, theirs: tuple[int, str]) -> None:
        """The directory knows of a copy with this rank at another gateway. That one hears of ours, too."""
        session = self._sessions.get(session_id)
        if session is not None and session.opened.done() and theirs > self.rank(session):
            self._end_own(session, theirs[0])

    def _end_own(self, session: GatewaySession, epoch: int) -> None:
        """The copy of this gateway is the older one."""
        if (own := self._fleet.get(session.worker)) is not None:
            own.try_send(EndCopy(session.id, max(epoch, claimed(session.lease_epoch))))
        self._give_way(session, epoch, session.apart)

    def _fenced_here(self, session: GatewaySession, worker: Supervisor, epoch: int) -> None:
        """The worker that runs, or ran, the session, says that with this epoch it is not ours."""
        if epoch == session.lease_epoch and session.orphaned:  # it has not noticed our last connection's end
            with contextlib.suppress(Unavailable):
                self._failover.resume(session, worker, claimed(epoch))
        elif epoch >= session.lease_epoch:
            self._give_way(session, epoch, () if same_copy(epoch, session.lease_epoch) else session.apart)

    def _give_way(self, session: GatewaySession, epoch: int, lost_frames: tuple[int, ...]) -> None:
        """End the session here, since another gateway has it with this epoch, or none is to have it. These
        frames are not part of it there."""
        if not session.opened.done():
            session.declined(HeldElsewhere())
            return
        if session.closing:
            self._fleet.ending.closed(session)
        if session.closing or epoch >= CLOSED:
            self._sessions.end(session, "closed", "the session was closed")
        else:
            self._sessions.end(session, "fenced", FENCED, lost_frames)

    def closed(self, worker: Supervisor, event: SessionClosed) -> None:
        """The worker doesn't run it any more."""
        self._answered(worker, event.session, event.epoch)

    def worker_lost(self, worker: Supervisor) -> None:
        """It answers nothing any more."""
        for session in list(self._claims):
            self._answered(worker, session)
        self._offers.worker_lost(worker)

    def _answered(self, worker: Supervisor, session: str, epoch: int = 0) -> _Claim | None:
        """A claim was granted, or refused. Returns it, if there was one. A later claim than the one that was
        answered with this epoch still waits; 0: whichever it was."""
        claims = self._claims.get(session, {})
        claim = claims.get(worker.name)
        if claim is None or 0 < epoch < claim.epoch:
            return None
        del claims[worker.name]
        claim.answered.set()
        if not claims:
            del self._claims[session]
        return claim

    def _adopt(self, worker: Supervisor, event: Claimed) -> None:
        assert event.info is not None
        known = read_record(event.record)
        self._records.charge(known)
        origin = OpenSession(event.session, event.info.prompt, event.info.seed)
        guest = self._guests.take(event.session)
        session = self._opener.enter(origin, known.client, known.hashes, guest.session if guest else None)
        session.lease_epoch = event.epoch
        self._sessions.assign(session, worker.name)
        if guest is not None:  # it has heard all receipts
            known = replace(known, receipts=())
        self._records.apply(known, session)
        self._come_so_far(session, worker, event)
        session.progress.parted(self._sessions.now_s())
        session.changed(event.info, self._sessions.now_s())
        worker.try_send(session.audience())
        for control in guest.pending.values() if guest is not None else ():
            session.recovery.submitted(control)
            worker.try_send(SubmitControl(session.id, control))
        log.warning("session %s: taken over from another gateway", session.id)
        self.on_adopted()


def _rank(worker: Supervisor, epoch: int) -> tuple[int, str]:
    """That of the copy in this worker."""
    return rank(epoch, worker.ready.instance if worker.ready is not None else "")
