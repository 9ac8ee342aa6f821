"""Which sessions go next: a pure policy over plain numbers. It knows no tensors, threads or clients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Candidate(NamedTuple):
    """A session that may generate. Its next segment should start at `wanted_s`, be ready at `deadline_s`."""

    session: str
    wanted_s: float
    deadline_s: float
    steps: int


def pick(candidates: Sequence[Candidate], now_s: float, max_batch: int) -> list[str]:
    """The sessions of the next batch: earliest deadline first, among the due ones with as many steps as it.

    Nobody starves: a session that is passed over keeps its deadline, while those that ran get later ones."""
    due = sorted((c for c in candidates if c.wanted_s <= now_s), key=lambda c: (c.deadline_s, c.session))
    return [c.session for c in due if c.steps == due[0].steps][:max_batch]


def next_wake(candidates: Sequence[Candidate]) -> float | None:
    """When somebody will be due; None: only a control or a viewer can bring work."""
    return min((c.wanted_s for c in candidates), default=None)
