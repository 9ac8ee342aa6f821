"""Finds a short history that still goes wrong.

python -m tests.rigs.simulation.shrink SEED [--gateways N] [--workers N] [--joined] [--more branches …]
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from tests.rigs.simulation.history import MORE, Step, draw
from tests.rigs.simulation.world import Outcome, simulate

NAMES = re.compile(r"\b[gw]\d-\w+|\b[gwdc]\d*\b|\d+|\[.*?\]")


def kind(wrong: str) -> str:
    """What is wrong, without names and numbers."""
    return NAMES.sub("", wrong)


def shrink(steps: list[Step], goes_wrong: Callable[[list[Step]], bool]) -> list[Step]:
    """Leave out as many steps as possible, then make the pauses simple."""
    size = max(1, len(steps) // 2)
    while size:
        at = 0
        while at < len(steps):
            left = steps[at : at + size]
            fewer = steps[:at] + steps[at + size :]
            if at < len(fewer):  # keep the time that the others have
                pause_s = sum(step.after_s for step in left)
                later = [
                    *steps[:at],
                    replace(fewer[at], after_s=fewer[at].after_s + pause_s),
                    *fewer[at + 1 :],
                ]
            else:
                later = fewer
            if goes_wrong(fewer):
                steps = fewer
            elif goes_wrong(later):
                steps = later
            else:
                at += size
        size //= 2
    for at, step in enumerate(steps):
        for simple in (replace(step, after_s=0.0), replace(step, after_s=round(step.after_s, 1))):
            tried = [*steps[:at], simple, *steps[at + 1 :]]
            if steps[at].after_s != simple.after_s and goes_wrong(tried):
                steps = tried
                break
    return steps


def shortest(seed: int, gateways: int, workers: int, *, joined: bool, more: Sequence[str]) -> Outcome:
    """The outcome of the shortest history that goes wrong as this seed's does; as it is if all is well."""

    def played(steps: list[Step]) -> Outcome:
        return simulate(seed, steps, gateways=gateways, workers=workers, joined=joined, more=more)

    first = played(draw(seed, more))
    if not first.wrong:
        return first
    kinds = {kind(wrong) for wrong in first.wrong}
    steps = shrink(first.steps, lambda tried: bool(kinds & {kind(wrong) for wrong in played(tried).wrong}))
    return played(steps)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("seed", type=int)
    parser.add_argument("--gateways", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--joined", action="store_true")
    parser.add_argument("--more", nargs="*", default=(), choices=MORE)
    args = parser.parse_args()
    outcome = shortest(args.seed, args.gateways, args.workers, joined=args.joined, more=args.more)
    print("\n".join([*outcome.notes, "", *map(str, outcome.steps), "", *outcome.wrong]))


if __name__ == "__main__":
    main()
