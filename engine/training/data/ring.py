"""Bounded training data that is made during training and is identical after a run resumes.

Data consists of parts of equal size, and part k is a pure function of k. The ring holds the latest parts,
with part k in place k modulo its size. Its content therefore depends only on the number of parts made so far,
and a resumed run needs only that number. The content of a part is unknown here.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Generic, TypeVar

import torch

P = TypeVar("P")


class Ring(Generic[P]):
    """`make(k)` makes part k, and `put(place, part)` stores it. There are `start` parts at first and one more
    every `every` steps; the latest `limit` are kept."""

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
        self.made = 0  # parts so far, including dropped ones

    def __len__(self) -> int:
        """Number of parts in the ring."""
        return min(self.made, self.limit)

    def advance(self, step: int) -> None:
        """Make the parts that belong to this step."""
        wanted = self.start + step // self.every
        for k in range(max(self.made, wanted - self.limit), wanted):
            self.put(k % self.limit, self.make(k))
            self.made = k + 1


def part_generator(seed: int, stream: str, part: int) -> torch.Generator:
    """A generator for one part of a stream of data, independent of those of all other parts."""
    mixed = zlib.crc32(f"{seed}/{stream}/{part}".encode())
    return torch.Generator().manual_seed(mixed)
