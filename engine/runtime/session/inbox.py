"""Controls that wait for a segment boundary: bounded, in order, each id answered once.

Overflow: the oldest waiting action gives way ("superseded": a newer one counts anyway); where there is none,
the newcomer is refused ("busy"). A prompt is never lost without an answer. Not thread-safe: the engine holds
a lock.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from engine.types import Action, Control, ControlBody, Receipt, Rewind


def at_once(body: ControlBody) -> bool:
    """Whether it makes invalid what is queued and what is in the making."""
    return isinstance(body, Rewind) or getattr(body, "when", "next") == "now"


class Inbox:
    def __init__(self, session: str, size: int, remembered_ids: int) -> None:
        self._session = session
        self._size = size
        self._remembered = max(remembered_ids, size + 1)
        self._waiting: deque[Control] = deque()
        self._answers: OrderedDict[str, Receipt | None] = OrderedDict()  # None: it waits

    def __len__(self) -> int:
        return len(self._waiting)

    def offer(self, control: Control) -> list[Receipt]:
        """Take it; the result is what has to be said at once. An id seen before has no second effect:
        its answer is repeated, if there is one yet."""
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
        """What may take effect, oldest first: between two segments all that waits, in the middle of one only
        what makes it invalid, and what came before that. Each has to be answered."""
        count = len(self._waiting)
        if not between:
            count = max((i for i, c in enumerate(self._waiting, 1) if at_once(c.body)), default=0)
        return [self._waiting.popleft() for _ in range(count)]

    def answer(self, receipt: Receipt) -> Receipt:
        """Remember the final receipt of its id."""
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
