"""Probation: finds the session that kills workers, while the others go on.

All sessions of a worker are lost together, so a loss says little about each of them. Those that were being
generated at MAX_FAILOVERS losses in a row, and are lost again, are suspects. They are tried by halves: one
half is restored, the other one is held back until that half has lived for a while. If the worker dies
before, the half on trial is halved again. A session that was alone on trial twice when its worker died is the
culprit.

Pure: it has no clock, restores nothing and ends nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from server.gateway.fleet.supervisor import HEALTHY_S
from server.gateway.session import GatewaySession

MAX_FAILOVERS = 2
MAX_BLAME = 2
TRIAL_S = 2.0  # doubled with each further loss, for what kills late


def is_suspect(session: GatewaySession) -> bool:
    return session.failovers > MAX_FAILOVERS


def on_trial(session: GatewaySession, now_s: float) -> bool:
    """Whether it is a suspect that was restored a moment ago, or is about to be."""
    if not is_suspect(session) or session.held:
        return False
    trial_s = min(HEALTHY_S, TRIAL_S * 2.0 ** (session.failovers - MAX_FAILOVERS - 1))
    return session.orphaned or now_s - session.placed_s < trial_s


def judge(lost: Sequence[GatewaySession], tried: Sequence[GatewaySession]) -> bool:
    """Decide who is tried next, after `lost` were lost with their worker, of whom `tried` were on trial. A
    culprit is one whose `blame` is now MAX_BLAME. Returns whether the circle has become smaller."""
    if not tried:
        _halve([session for session in lost if is_suspect(session)])
        return False
    names = {session.id for session in tried}
    for session in lost:
        if session.id not in names:  # the others have lived long enough: it was none of them
            session.failovers = min(session.failovers, MAX_FAILOVERS)
    if len(tried) == 1:
        tried[0].blame += 1
    _halve(tried)
    return len(tried) > 1


def release(sessions: Iterable[GatewaySession], now_s: float) -> None:
    """Those that were held back are next, once nobody is on trial."""
    some = list(sessions)
    if not any(on_trial(session, now_s) for session in some):
        for session in some:
            session.held = False


def _halve(suspects: Sequence[GatewaySession]) -> None:
    first = (len(suspects) + 1) // 2
    for number, session in enumerate(sorted(suspects, key=lambda s: not s.viewers)):
        session.held = number >= first
