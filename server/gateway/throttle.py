"""Charges clients for the device's time, and throttles the sessions of one that has used up its share."""

from __future__ import annotations

from engine.types import Stall
from server.gateway.budget import Budgets, device_s
from server.gateway.fleet.fleet import Fleet
from server.gateway.registry import Sessions
from server.gateway.session import GatewaySession
from server.worker.messages import SegmentStats


class Throttle:
    def __init__(self, sessions: Sessions, fleet: Fleet, budgets: Budgets) -> None:
        self._sessions, self._fleet, self._budgets = sessions, fleet, budgets

    def charge(self, session: GatewaySession, stats: SegmentStats) -> None:
        """A segment was made for this session's client."""
        self._budgets.spend(session.client, device_s(stats.timings_ms))
        self.check(session)

    def check(self, session: GatewaySession) -> None:
        """Throttle or release the session as its client's share demands. A throttled session stalls until
        there is some share again. Viewers are told the remaining time anew at each call, since work that was
        under way when the session was throttled is still charged."""
        client = session.client
        over = self._budgets.over(client)
        if client is None or session.away or not (over or session.throttled):
            return
        changed, session.throttled = over != session.throttled, over
        speed = session.stats.speed if session.stats else 1.0
        stalls = over and not session.info.paused
        buffering = Stall(speed, 1.0, self._budgets.back_in_s(client)) if stalls else None
        session.stall(buffering, self._sessions.now_s())
        if changed:
            self._fleet.try_send(session, session.audience())
            self._sessions.count()
            self._sessions.tell(session)
