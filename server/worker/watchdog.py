"""Sends the worker's heartbeat, and reports when a device call hangs and when it returns.

It has its own thread, since it is the device thread that hangs.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

from server.worker.base import Alive
from server.worker.messages.events import Hung

CHECK_S, REPORT_S = 0.1, 1.0
BEAT = 5  # checks per heartbeat


class Watchdog:
    """`hangs_for_s` is called ten times a second. It returns how long the current device call has taken if
    that is too long, else None. `emit` gets Hung when a hang begins, every second while it lasts, and when it
    is over; and Alive twice a second."""

    def __init__(self, hangs_for_s: Callable[[], float | None], emit: Callable[[Hung | Alive], None]) -> None:
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
            self._thread.join(timeout=2 * CHECK_S)

    def check(self) -> None:
        """Check the device once."""
        for_s = self._hangs_for_s()
        if for_s is None:
            if self._told_s is not None:
                self._told_s = None
                self._emit(Hung(None))
        elif self._told_s is None or not 0 <= for_s - self._told_s < REPORT_S:
            self._told_s = for_s
            self._emit(Hung(for_s))

    def _run(self) -> None:
        for number in itertools.count():
            if self._stopping.wait(CHECK_S):
                return
            if number % BEAT == 0:
                self._emit(Alive())
            self.check()
