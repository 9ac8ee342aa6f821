"""What happens to a simulated cluster: steps that are drawn from a seed. Each makes sense without the
others, so that a long history can be shortened."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

WHAT = {
    "open": 10,
    "close": 5,
    "steer": 22,
    "watch": 16,
    "leave": 8,
    "move": 14,
    "kill gateway": 4,
    "kill worker": 3,
    "stop gateway": 3,
    "stop worker": 3,
    "cut": 8,
    "drain": 1,
}
MORE = {  # what else there may be, by name
    "branches": {"fork": 8, "save": 4, "reopen": 5, "rewind": 8},
    "stores": {"lose gateway": 3, "kill all": 2, "store away": 4},
    "limits": {"crowd": 20},
    "divisions": {"divide": 6},
}
FAULTS = (
    *("kill gateway", "kill worker", "stop gateway", "stop worker", "cut", "divide", "kill all"),
    "store away",
)
FOR_S = (0.05, 0.3, 1.0, 2.0, 3.2, 4.0, 6.5, 8.0, 15.5, 20.0, 40.0)
LONG_S = 130.0  # beyond the end of a lease


@dataclass(frozen=True)
class Step:
    """`a`, `b` and `c` choose who and what, whatever there is by then. A fault lasts `for_s`."""

    after_s: float
    what: str
    a: int
    b: int
    c: int
    for_s: float

    def __str__(self) -> str:
        lasting = f" for {self.for_s:g} s" if self.what in FAULTS else ""
        return f"+{self.after_s:.3f} s {self.what} {self.a} {self.b} {self.c}{lasting}"


def draw(seed: int, more: Sequence[str] = ()) -> list[Step]:
    asked = WHAT | {kind: weight for name in more for kind, weight in MORE[name].items()}
    chance = random.Random(f"{seed} history")
    kinds = list(asked)
    bold = chance.choice([0.5, 1.0, 3.0])  # some histories have few faults, some many
    weights = [int(10 * w * (bold if kind in FAULTS else 1)) for kind, w in asked.items()]
    steps = [Step(0.3, "open", chance.randrange(60), 0, 0, 0.0) for _ in range(chance.randint(1, 3))]
    for _ in range(chance.choice([8, 15, 30, 50])):
        after_s = chance.random() * chance.choice([0.02, 0.02, 0.2, 1.0, 1.0, 4.0])
        what = chance.choices(kinds, weights)[0]
        a, b, c = (chance.randrange(60) for _ in range(3))
        for_s = LONG_S if chance.random() < 0.02 else chance.choice(FOR_S)
        steps.append(Step(after_s, what, a, b, c, for_s))
    return steps
