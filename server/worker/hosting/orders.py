"""Orders wait here for the thread that carries them out: that may have to wait for the device, the event loop
may not. And what an order is answered with if it cannot be carried out."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from engine.errors import PsistreamError, Unavailable
from engine.types import OpenSession, Receipt, SessionClosed
from server.worker.base import Event, Order, RestoreSession
from server.worker.messages.commands import ExportSession, SubmitControl
from server.worker.messages.events import Exported

log = logging.getLogger(__name__)

MANY, FEW = 512, 128  # orders that wait: their senders are slowed down, and no more


class Orders:
    """`handle` carries one out; if it raises, `broken` is told why and no more are carried out. `again` is
    called, on that thread, once few wait after `put` has said that there are many."""

    def __init__(
        self, handle: Callable[[Order], None], broken: Callable[[str], None], again: Callable[[], None]
    ) -> None:
        self._handle, self._broken, self._again = handle, broken, again
        self._waiting: deque[Order] = deque()
        self._changed = threading.Condition()
        self._many = False
        threading.Thread(target=self._run, name="orders", daemon=True).start()

    def put(self, order: Order) -> bool:
        """From any thread. False: there are many, and the sender should wait for `again`."""
        with self._changed:
            self._waiting.append(order)
            self._changed.notify()
            self._many = self._many or len(self._waiting) > MANY
            return not self._many

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    while not self._waiting:
                        self._changed.wait()
                    order = self._waiting.popleft()
                    again = self._many and len(self._waiting) <= FEW
                    self._many = self._many and not again
                if again:
                    self._again()
                self._handle(order)
        except Unavailable as error:
            self._broken(f"the worker is broken: {error.message}")
        except Exception as error:  # the outermost loop of this thread
            log.exception("the worker failed")
            self._broken(f"the worker failed ({type(error).__name__})")


def refusal(order: Any, error: PsistreamError) -> Event | None:
    """What the sender of an order waits for, if it is refused."""
    match order:
        case RestoreSession(opening):
            return SessionClosed(opening.session, error.code, error.message, error.field)
        case OpenSession(session):
            return SessionClosed(session, error.code, error.message, error.field)
        case SubmitControl(session, control):
            return Receipt(session, control.id, "rejected", code=error.code, message=error.message)
        case ExportSession(session, request):
            return Exported(session, request, None, error.code, error.message)
        case _:
            return None
