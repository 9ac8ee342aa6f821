"""Rotations: attention sees differences of positions only; the distance of the anchor is capped."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from engine.model.config import ModelConfig
from engine.model.packing import Positions
from engine.model.presets import PRESETS
from engine.model.rope import grid, pool, rotate
from tests.rigs.engine import tiny

ROWS, COLUMNS = tiny.DIT.latent_height // 2, tiny.DIT.latent_width // 2


def scores(rotations: Tensor) -> Tensor:
    """Attention scores of fixed random queries and keys under (2, N, head_dim / 2) rotations: (N, N)."""
    cos, sin = (r[None, None].double() for r in rotations)
    g = torch.Generator().manual_seed(1)
    q, k = (
        torch.randn(1, 1, cos.shape[2], 2 * cos.shape[3], generator=g, dtype=torch.float64) for _ in range(2)
    )
    return (rotate(q, cos, sin) @ rotate(k, cos, sin).transpose(-1, -2))[0, 0]


def whole_video(c: ModelConfig, offset: int) -> Tensor:
    """As the paper counts: the anchor at 0 of the whole video, all else moved on by `offset`."""

    def piece(times: range, kernel: int) -> Tensor:
        moved = [t + offset if t else 0 for t in times]
        return pool(grid(moved, ROWS, COLUMNS, c.rope_axes, c.rope_theta), kernel).flatten(1, 3)

    anchor = 2 if c.packing.anchor_kernel == "2x" else 1
    noisy = range(19, 20 + c.segment)
    return torch.cat(
        [piece(range(1, 17), 4), piece(range(17, 19), 2), piece(range(1), anchor), piece(noisy, 1)], 1
    )


def positions(c: ModelConfig, index: float) -> Tensor:
    cos, sin = Positions(c)(torch.tensor([index]))
    return torch.stack([cos[0, 0], sin[0, 0]])


@pytest.mark.parametrize("kernel", [1, 2, 4])
@pytest.mark.parametrize("moved", [3, 19, 50])
def test_moving_all_positions_changes_no_score(kernel: int, moved: int) -> None:
    """Also for pooled rotations, which are averages and shorter than 1."""

    def at(offset: int) -> Tensor:
        times = range(offset, offset + 8)
        return pool(grid(times, 4, 4, (4, 6, 6), 256.0), kernel).flatten(1, 3)

    torch.testing.assert_close(scores(at(0)), scores(at(moved)), atol=3e-5, rtol=0)


def test_pooling_averages_with_the_far_ends_repeated_and_does_not_renormalise() -> None:
    r = grid(range(3), 1, 3, (4, 6, 6), 256.0)
    pooled = pool(r, 2)
    assert pooled.shape == (2, 2, 1, 2, 8)
    torch.testing.assert_close(pooled[:, 0, 0, 0], r[:, :2, 0, :2].mean((1, 2)))
    torch.testing.assert_close(pooled[:, 1, 0, 1], r[:, 2, 0, 2])
    length = pooled.pow(2).sum(0).sqrt()
    assert float(length.min()) < 0.95
    assert float(length.max()) <= 1 + 1e-6


def test_rotation_turns_neighbouring_pairs_and_keeps_lengths() -> None:
    x = torch.tensor([1.0, 0.0, 0.0, 2.0]).reshape(1, 1, 1, 4)
    quarter = torch.tensor([torch.pi / 2, torch.pi]).reshape(1, 1, 1, 2)
    turned = rotate(x, quarter.cos(), quarter.sin())
    torch.testing.assert_close(turned.flatten(), torch.tensor([0.0, 1.0, 0.0, -2.0]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kernel", ["1x", "2x"])
@pytest.mark.parametrize("index", [0, 1, 5, 6])
def test_only_the_anchors_distance_grows_as_in_the_papers_count(
    kernel: Literal["1x", "2x"], index: int
) -> None:
    """We carry minus the distance on the anchor; the paper carries plus it on everything else. Among video
    tokens that is the same."""
    c = replace(tiny.DIT, packing=replace(tiny.DIT.packing, anchor_kernel=kernel))
    expected = scores(whole_video(c, c.segment * index))
    torch.testing.assert_close(scores(positions(c, index)), expected, atol=3e-5, rtol=0)


@pytest.mark.parametrize("index", [0, 1, 5, 6])
def test_the_papers_own_count_can_be_had(index: int) -> None:
    """To condition tokens, which are not rotated, the two counts differ: they stand at 0 for ever."""
    c = replace(tiny.DIT, packing=replace(tiny.DIT.packing, moves="video"))
    expected = whole_video(c, c.segment * index)
    torch.testing.assert_close(positions(c, index), expected, atol=1e-5, rtol=0)


def test_the_anchors_distance_stops_growing_at_its_cap() -> None:
    """Beyond what training saw, rotations would be new to the model: hour three must look like minute one."""
    c = tiny.DIT
    at_cap = c.packing.anchor_cap / c.segment
    assert torch.equal(positions(c, at_cap), positions(c, 100_000))
    assert not torch.equal(positions(c, at_cap), positions(c, at_cap - 1))


def test_a_batch_may_mix_segment_numbers() -> None:
    both = Positions(tiny.DIT)(torch.tensor([0.0, 4.0]))
    for b, index in enumerate((0.0, 4.0)):
        assert torch.equal(torch.stack([r[b, 0] for r in both]), positions(tiny.DIT, index))


def test_without_rope_consistency_the_anchor_stays_where_plain_f1_has_it() -> None:
    plain = replace(tiny.DIT, packing=replace(tiny.DIT.packing, rope_consistency=False))
    assert torch.equal(positions(plain, 50), positions(plain, 0))
    assert torch.equal(positions(plain, 50), positions(tiny.DIT, 0))


@pytest.mark.parametrize("name", ["wander", "framepack-f1"])
def test_hours_of_indices_stay_finite_and_the_anchor_distinct_within_the_cap(name: str) -> None:
    """Below the cap every distance has its own rotation, on whichever side carries it; the longest wavelength
    is far beyond it."""
    c = PRESETS[name].config
    small = (tiny.DIT.latent_height, tiny.DIT.latent_width)
    memory = replace(c.memory, window=(1, 1, 1))
    p = Positions(replace(c, latent_height=small[0], latent_width=small[1], memory=memory))
    hours = torch.tensor([0.0, 1.0, 1e3, 1e5, 1e7])
    cos, sin = p(hours)
    assert bool(cos.isfinite().all())
    assert bool(sin.isfinite().all())
    longest = 2 * torch.pi * c.rope_theta ** (1 - 2 / c.rope_axes[0])
    assert c.packing.anchor_cap < longest
    steps = torch.arange(c.packing.anchor_cap // c.segment + 1).float()
    time = slice(0, c.rope_axes[0] // 2)
    mover = p.before.shape[1] if c.packing.moves == "anchor" else -1
    waves = torch.cat([r[:, 0, mover, time] for r in p(steps)], -1)
    apart = torch.cdist(waves, waves) + 10 * torch.eye(len(steps))
    assert float(apart.min()) > 1e-2
