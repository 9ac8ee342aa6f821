"""What operators have drained, by name: hosts, or single workers. Pure.

Members remember it for a directory that starts again. What a member remembers may be old, so a drain that was
ended here stays ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from engine.errors import Unavailable

MAX_DRAINED = 1024


class Drains:
    """`what` is in the message when there are too many."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._names: dict[str, None] = {}
        self._ended: dict[str, None] = {}  # since the directory has started

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._names))

    def add(self, name: str) -> None:
        """Raises Unavailable if there are too many."""
        if len(self._names) >= MAX_DRAINED and name not in self._names:
            raise Unavailable(
                f"{MAX_DRAINED} {self._what} are drained, which is the most: take some back, with "
                "`psistream cluster take-back`"
            )
        self._names[name] = None
        self._ended.pop(name, None)

    def end(self, name: str) -> None:
        self._names.pop(name, None)
        self._ended[name] = None
        if len(self._ended) > MAX_DRAINED:
            del self._ended[next(iter(self._ended))]

    def remembered(self, names: Iterable[str]) -> None:
        """A member says that an earlier directory, or this one before, had these."""
        for name in names:
            if name not in self._ended and len(self._names) < MAX_DRAINED:
                self._names[name] = None
