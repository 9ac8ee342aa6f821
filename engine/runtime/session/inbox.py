"""Controls that wait for a segment boundary: bounded, in order, each id answered once.

Overflow: the oldest waiting action is dropped and answered `superseded`, since a newer one replaces it
anyway. If no action waits, the new control is refused as `busy`. A prompt is never lost without an answer.
Not thread-safe: the engine holds a lock.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from engine.types import Action, Control, Receipt
from engine.wire.controls import at_once


class Inbox:
    def __init__(self, session: str, size: int, remembered_ids: int) -> None:
        self._session = session
        self._size = size
        self._remembered = max(remembered_ids, size + 1)
        self._waiting: deque[Control] = deque()
        self._answers: OrderedDict[str, Receipt | None] = OrderedDict()  # None: still waiting

    def __len__(self) -> int:
        return len(self._waiting)

    def offer(self, control: Control) -> list[Receipt]:
        """Queue a control. Returns the receipts to send at once. A repeated id has no second effect; its
        receipt is repeated if there is one yet."""
        if control.id in self._answers:
            answer = self._answers[control.id]
            return [] if answer is None else [answer]
        if len(self._waiting) < self._size:
            return self._take(control)
        oldest = next((i for i, c in enumerate(self._waiting) if isinstance(c.body, Action)), None)
        if oldest is None:
            return [self._refuse(control, "busy", "too many controls wait for the next segment: try again")]
        dropped = self._waiting[oldest]
        del self._waiting[oldest]
        answer = self._refuse(dropped, "superseded", "newer controls came before this one took effect")
        return [answer, *self._take(control)]

    def take(self, *, between: bool = True) -> list[Control]:
        """Controls that may take effect, oldest first: all of them between two segments; within a segment
        only those up to the last one that takes effect at once. The caller must answer each."""
        count = len(self._waiting)
        if not between:
            count = max((i for i, c in enumerate(self._waiting, 1) if at_once(c.body)), default=0)
        return [self._waiting.popleft() for _ in range(count)]

    def answer(self, receipt: Receipt) -> Receipt:
        """Remember the final receipt of a control."""
        self._answers[receipt.id] = receipt
        waiting = {c.id for c in self._waiting}
        while len(self._answers) > self._remembered:
            oldest = next(i for i in self._answers if i not in waiting)
            del self._answers[oldest]
        return receipt

    def _take(self, control: Control) -> list[Receipt]:
        self._waiting.append(control)
        self._answers[control.id] = None
        return []

    def _refuse(self, control: Control, code: str, message: str) -> Receipt:
        return self.answer(Receipt(self._session, control.id, "rejected", code=code, message=message))
