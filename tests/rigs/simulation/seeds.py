"""Plays many histories."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.rigs.simulation.world import simulate


def wrong(seeds: Iterable[int], *, joined: bool, more: Sequence[str] = ()) -> dict[int, list[str]]:
    """What goes wrong, by seed. `more` names what else happens: see history."""
    found = {}
    for seed in seeds:
        gateways, workers = 2 + seed % 2, 2 + seed // 2 % 2
        outcome = simulate(seed, gateways=gateways, workers=workers, joined=joined, more=more)
        if outcome.wrong:
            found[seed] = outcome.wrong
    return found
