"""Which sessions have ended, remembered by gateways and workers: a copy of one may have been out of reach,
and must not be taken for a session that was lost."""

from __future__ import annotations

from collections.abc import Iterator


class Endings:
    """By session the epoch below which its copies are not needed. Beyond `most` sessions the oldest are
    forgotten. Iteration is over their names."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._epochs: dict[str, int] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._epochs))

    def epoch(self, session: str) -> int:
        """0: it is not known to have ended."""
        return self._epochs.get(session, 0)

    def add(self, session: str, epoch: int) -> bool:
        """Returns whether that is news."""
        known = self._epochs.pop(session, 0)
        self._epochs[session] = max(known, epoch)
        if len(self._epochs) > self._most:
            del self._epochs[next(iter(self._epochs))]
        return epoch > known

    def forget(self, session: str) -> None:
        """It goes on, for instance as it was saved."""
        self._epochs.pop(session, None)
