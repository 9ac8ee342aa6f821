"""Says when a call of the device does not come back, and when it does.

A thread of its own, since the device's is the one that is stuck. It knows the device only as a question.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from engine.types import Hangs

ASK_S, TELL_S = 0.1, 1.0


class Watchdog:
    """`hangs_for_s` is asked ten times a second: for how long the present call has been out, where that is
    too long. `emit` is told when that begins, every second while it lasts, and when it is over."""

    def __init__(self, hangs_for_s: Callable[[], float | None], emit: Callable[[Hangs], None]) -> None:
        self._hangs_for_s, self._emit = hangs_for_s, emit
        self._told_s: float | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Idempotent."""
        self._stopping.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=2 * ASK_S)

    def look(self) -> None:
        """Ask once."""
        for_s = self._hangs_for_s()
        if for_s is None:
            if self._told_s is not None:
                self._told_s = None
                self._emit(Hangs(None))
        elif self._told_s is None or not 0 <= for_s - self._told_s < TELL_S:
            self._told_s = for_s
            self._emit(Hangs(for_s))

    def _run(self) -> None:
        while not self._stopping.wait(ASK_S):
            self.look()
