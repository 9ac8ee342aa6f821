"""What is done for sessions every second: who was forgotten is ended, who waits is told for how long still.

It knows of sessions what `Session` keeps, and neither worker nor clients.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from server.session import Session

EVERY_S = 1.0


async def upkeep(
    sessions: Callable[[], Iterable[Session]],
    *,
    idle_s: float,
    clock: Callable[[], float],
    expire: Callable[[Session], None],
    remind: Callable[[Session], None],
) -> None:
    """Until cancelled. `expire` is called for what nobody watched or steered for `idle_s`, `remind` for each
    session whose picture stands: else a state that is kept for latecomers would tell of a past future."""
    while True:
        await asyncio.sleep(EVERY_S)
        for session in list(sessions()):
            if not session.fanout.count and clock() - session.used_s > idle_s:
                expire(session)
            elif session.buffering is not None:
                remind(session)
