"""The gateways of a cluster as one of them sees it: which one owns a session, and where it can be reached.

A session's id begins with the name of the gateway that opened it. The directory's roster names the owners of
those that have moved since. Pure, with an injected clock. A gateway without a name is alone.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from engine.types import SessionClosed
from server.cluster.messages import GATEWAY_FAULT, GATEWAY_NAME, MAIN, Roster
from server.worker.base import SESSION_ID

MOVED, FENCED = TAKEN = "moved", "fenced"  # codes of sessions that end here and go on in another gateway
UNKNOWN = ""  # another gateway, and the roster will soon say which one
# for so long after the start a session that was ours may come back; and for so long after it was taken, the
# roster may not say by whom
SETTLE_S = 10.0
GONE_S = 150.0  # a worker has closed the sessions of a gateway that is away for so long
MAX_LEFT = 1024


class Peers:
    """`key` is what the cluster's members have in common; `main` is the gateway that has session `main`."""

    def __init__(self, name: str = "", key: bytes = b"", clock: Callable[[], float] = time.monotonic) -> None:
        self.name, self.key, self._clock = name, key, clock
        self.main = UNKNOWN
        self.complaints: dict[str, str] = {}  # gateways that cannot reach this one, and why
        self.silent: frozenset[str] = frozenset()  # gateways that may be gone
        self._urls: dict[str, str] = {}
        self._moved: dict[str, str] = {}  # session → its owner, if that isn't the one in its id
        self._started_s = clock()
        self._seen_s: dict[str, float] = {}  # when a gateway that is away was last in the roster
        self._left: OrderedDict[str, float] = OrderedDict()  # sessions that were here: see owner_of

    def __bool__(self) -> bool:
        return bool(self.name)

    @property
    def urls(self) -> frozenset[str]:
        """Where the gateways of the roster are reached."""
        return frozenset(self._urls.values())

    @property
    def others(self) -> dict[str, str]:
        """Where each of them but this one is reached, by name."""
        return {name: url for name, url in sorted(self._urls.items()) if name != self.name}

    def update(self, roster: Roster) -> None:
        """What the directory says now. One that has just started may not have heard of everybody."""
        now_s = self._clock()
        before: dict[str, str] = {} if roster.settled else self._urls
        urls = before | {gateway.name: gateway.url for gateway in roster.gateways}
        away = {name: s for name, s in self._seen_s.items() if now_s - s < GONE_S and name not in urls}
        self._seen_s = away | {name: now_s for name in self._urls if name not in urls}
        self._urls, about = urls, f"{GATEWAY_FAULT}{self.name}"
        self.silent = frozenset(each.name for each in roster.gateways if not each.ready)
        self.complaints = {
            each.name: each.faults[about]
            for each in roster.gateways
            if about in each.faults and each.name != self.name
        }
        self.main = roster.main if roster.settled else roster.main or self.main
        self._moved = roster.moved if roster.settled else self._moved | roster.moved
        for session in roster.moved:
            self._left.pop(session, None)

    @property
    def opens_main(self) -> bool:
        """Whether this gateway is the one to open session `main`. Not when another one has just taken it,
        whatever the last roster said."""
        return self.main == self.name and self._clock() >= self._left.get(MAIN, 0.0)

    def new_id(self, random: str) -> str:
        """The id of a session or a viewer of this gateway."""
        return f"{self.name}-{random}" if self.name else random

    def heard(self, event: object) -> None:
        """A session is no longer here: it has ended, or another gateway has taken it over."""
        if isinstance(event, SessionClosed):
            self._left[event.session] = self._clock() + SETTLE_S if is_taken(event) else 0.0
            if len(self._left) > MAX_LEFT:
                self._left.popitem(last=False)

    def owner_of(self, session: str) -> str | None:
        """The other gateway that has this session, or UNKNOWN; None if it would be this one. Ask only about
        sessions that are not open here."""
        if not self.name:
            return None
        if session == MAIN:  # it is always somewhere, or about to be
            return self.main if self.main != self.name else UNKNOWN
        owner = self._moved.get(session) or gateway_in(session)
        if owner is None:
            return None
        if owner == self.name:
            until_s = self._left.get(session, self._started_s + SETTLE_S)
            return UNKNOWN if self._clock() < until_s else None
        return None if self._is_gone(owner) else owner

    def claimed_by(self, session: str) -> str | None:
        """The gateway of the roster that has claimed a session of another one's name; None if none has."""
        return owner if (owner := self._moved.get(session)) in self._urls else None

    def gateway_of(self, viewer: str) -> str | None:
        """The other gateway that has this viewer; None if it would be this one."""
        owner = gateway_in(viewer) if self.name else None
        return None if owner in (None, self.name) or self._is_gone(owner or "") else owner

    def url_of(self, gateway: str) -> str | None:
        """Where it is reached; None while it is away."""
        return self._urls.get(gateway)

    def away_s(self, gateway: str) -> float:
        """How long this gateway has been missing in the roster, as far as is known here; 0: it is there."""
        if gateway in self._urls:
            return 0.0
        return self._clock() - self._seen_s.get(gateway, self._started_s)

    def _is_gone(self, gateway: str) -> bool:
        return self.away_s(gateway) > GONE_S


def is_taken(event: SessionClosed) -> bool:
    """Whether the session goes on, in another gateway that has taken it over, or will at once."""
    return event.code in TAKEN


def gateway_in(name: str) -> str | None:
    """The gateway that an id of a session or a viewer begins with, if it does."""
    gateway, dash, _ = name.partition("-")
    fits = dash and GATEWAY_NAME.fullmatch(gateway) and SESSION_ID.fullmatch(name)
    return gateway if fits else None
