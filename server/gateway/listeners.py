"""Who hears what happens in the sessions: control channels, viewers. One's fault is not the others'."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

from server.control.base import Listener, SessionEvent

log = logging.getLogger(__name__)


class Listeners:
    """Called in the order in which they came, on the event loop."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def add(self, listener: Listener) -> Callable[[], None]:
        """The result removes it; calling that twice is fine."""
        self._listeners.append(listener)

        def remove() -> None:
            with contextlib.suppress(ValueError):
                self._listeners.remove(listener)

        return remove

    def tell(self, event: SessionEvent) -> None:
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception:  # whatever a listener does wrong, the others hear of it
                log.exception("a listener failed on %s", type(event).__name__)
