"""Charges clients for device time, and throttles the sessions of clients that have used up their share."""

from __future__ import annotations

from engine.types import Stall
from server.gateway.budget import device_s
from server.gateway.fleet.fleet import Fleet
from server.gateway.registry import Sessions
from server.gateway.session import GatewaySession
from server.worker.messages.events import SegmentStats, Stalled


class Throttle:
    def __init__(self, sessions: Sessions, fleet: Fleet) -> None:
        self._sessions, self._fleet, self._budgets = sessions, fleet, sessions.budgets

    def charge(self, session: GatewaySession, stats: SegmentStats) -> None:
        """Charge a segment to this session's client."""
        self._budgets.spend(session.client, device_s(stats.timings_ms))
        self.check(session)

    def check(self, session: GatewaySession) -> None:
        """Throttle the session if its client's share is used up, or release it if enough is available again.
        A throttled session stalls until then. Each call updates the remaining time for viewers, since work
        already in progress when the session was throttled is still charged."""
        client = session.client
        over = self._budgets.over(client)
        if client is None or session.orphaned or not (over or session.throttled):
            return
        changed, session.throttled = over != session.throttled, over
        speed = session.stats.speed if session.stats else 1.0
        stalls = over and not session.info.paused
        buffering = Stall(speed, 1.0, self._budgets.back_in_s(client)) if stalls else None
        session.stall(buffering, self._sessions.now_s())
        if session.elsewhere:  # other gateways' viewers cannot know why
            self._fleet.try_send(session, Stalled(session.id, buffering))
        if changed:
            self._fleet.try_send(session, session.audience())
            self._sessions.announce(session)
