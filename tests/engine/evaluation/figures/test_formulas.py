"""VBench's formulas against numbers computed by hand and against rendered video."""

from __future__ import annotations

import math

import pytest
import torch

from engine.evaluation.bench import truth
from engine.evaluation.figures.formulas import consistency, is_dynamic, smoothness
from engine.world.attributes import ACTIONS


def test_consistency_is_the_mean_of_both_cosines_none_below_zero() -> None:
    angles = torch.tensor([0.0, 60.0, 150.0]) * math.pi / 180
    features = torch.stack([angles.cos(), angles.sin()], 1) * torch.tensor([[1.0], [7.0], [0.3]])
    first = (0.5 + 0.5) / 2
    second = (math.cos(math.radians(90)) + 0.0) / 2  # to the first frame it is 150°: counts as 0
    assert consistency(features) == pytest.approx((first + second) / 2, abs=1e-6)


def test_a_still_video_is_consistent_and_smooth_and_not_dynamic() -> None:
    assert consistency(torch.ones(5, 8)) == pytest.approx(1.0)
    still = torch.randint(0, 255, (1, 3, 96, 160), dtype=torch.uint8).expand(7, -1, -1, -1)
    assert smoothness(still) == 1.0
    assert not is_dynamic(torch.zeros(32), 16, 96, 160)


def test_smoothness_is_high_for_a_walk_and_low_for_a_stutter() -> None:
    """The layers' motions predict a frame from its neighbours, but not if frames are out of order."""
    walk = truth(torch.tensor([0, 1, 0, 0, 1]), torch.full((4,), ACTIONS.index("right")), 3)
    stutter = walk.clone()
    stutter[5], stutter[6] = walk[8], walk[2]
    flicker = walk.clone()
    flicker[1::2] = flicker[1::2] // 2
    assert smoothness(walk) > 0.985
    assert smoothness(stutter) < smoothness(walk) - 0.005
    assert smoothness(flicker) < 0.85


def test_the_dynamic_degree_needs_enough_fast_pairs() -> None:
    """At 16 fps every second frame is sampled; the limit is 6 · 96 / 256 = 2.25 px."""
    frames = 64  # 32 sampled, so 8 pairs must be fast
    speed = torch.zeros(frames)
    speed[2 : 2 + 16] = 1.2
    assert is_dynamic(speed, 16, 96, 160)
    speed[4:6] = 0
    assert not is_dynamic(speed, 16, 96, 160)
    assert not is_dynamic(torch.full((frames,), 1.1), 16, 96, 160)
