"""Data in parts: what is held is a function of the step."""

from __future__ import annotations

import torch

from engine.training.data.ring import Ring, part_generator


def ring(start: int = 3, limit: int = 5, every: int = 10) -> tuple[Ring[int], dict[int, int], list[int]]:
    held: dict[int, int] = {}
    made: list[int] = []

    def make(k: int) -> int:
        made.append(k)
        return k

    return Ring(make, held.__setitem__, start=start, limit=limit, every=every), held, made


def test_parts_come_with_time_and_the_oldest_goes_first() -> None:
    r, held, made = ring()
    for step, now in ((0, {0, 1, 2}), (9, {0, 1, 2}), (10, {0, 1, 2, 3}), (40, {2, 3, 4, 5, 6})):
        r.advance(step)
        assert set(held.values()) == now
        assert len(r) == len(now)
    assert made == list(range(7))


def test_a_resumed_run_makes_only_what_it_holds() -> None:
    steady, resumed = ring(), ring()
    for step in range(0, 100, 10):
        steady[0].advance(step)
    resumed[0].advance(90)
    assert resumed[1] == steady[1]
    assert len(resumed[2]) == 5


def test_every_part_has_chance_of_its_own() -> None:
    draws = {
        float(torch.rand((), generator=part_generator(seed, stream, part)))
        for seed in (0, 1)
        for stream in ("a", "b")
        for part in range(4)
    }
    assert len(draws) == 16
    again = torch.rand((), generator=part_generator(1, "b", 3))
    assert float(again) in draws
