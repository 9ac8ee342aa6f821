"""Training data made while training runs, bounded, and the same again when a run resumes.

Data comes in parts of equal size; part k is a pure function of k. The ring holds the latest parts, each in
the place k modulo its size. So what it holds is a function of how many parts there have been, and a resumed
run needs only that number. It knows nothing about what is in a part.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Generic, TypeVar

import torch

P = TypeVar("P")


class Ring(Generic[P]):
    """`make(k)` makes part k, `put(place, part)` stores it. `start` parts at first, then one more every
    `every` steps, of which the latest `limit` are kept."""

    def __init__(
        self,
        make: Callable[[int], P],
        put: Callable[[int, P], None],
        *,
        start: int,
        limit: int,
        every: int,
    ) -> None:
        self.make, self.put = make, put
        self.start, self.limit, self.every = min(start, limit), limit, every
        self.made = 0  # parts so far, the forgotten ones included

    def __len__(self) -> int:
        """The parts that the ring contains now."""
        return min(self.made, self.limit)

    def advance(self, step: int) -> None:
        """Bring the ring to the parts that belong to this step."""
        wanted = self.start + step // self.every
        for k in range(max(self.made, wanted - self.limit), wanted):
            self.put(k % self.limit, self.make(k))
            self.made = k + 1


def part_generator(seed: int, stream: str, part: int) -> torch.Generator:
    """Random numbers for part `part` of a stream of data, independent of all others."""
    mixed = zlib.crc32(f"{seed}/{stream}/{part}".encode())
    return torch.Generator().manual_seed(mixed)
