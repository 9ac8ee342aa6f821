"""Plays many histories.

python -m tests.rigs.simulation.seeds FIRST COUNT plays them with drawn ingredients and prints what is wrong.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from tests.rigs.simulation.history import MORE
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


def mixed(seed: int) -> dict[str, Any]:
    """Arguments of `simulate`: a cluster and what happens to it. A store needs a directory here, since
    gateways without one have no names in it."""
    chance = random.Random(f"{seed} combo")
    joined = chance.random() < 0.6
    kinds = ["divisions", "branches", "limits", *(["stores"] if joined else [])]
    more = [kind for kind in MORE if kind in kinds and chance.random() < 0.55]
    gateways, workers = chance.choice([2, 2, 3, 3, 4]), chance.choice([2, 2, 3])
    return {"joined": joined, "more": more, "gateways": gateways, "workers": workers}


def main() -> None:
    first, count = map(int, sys.argv[1:])
    for seed in range(first, first + count):
        if found := simulate(seed, **mixed(seed)).wrong:
            print(seed, mixed(seed), found, flush=True)


if __name__ == "__main__":
    main()
