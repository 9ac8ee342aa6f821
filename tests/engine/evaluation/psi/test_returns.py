"""ψ at returns: where the returns are, and that the measure depends on memory alone."""

from __future__ import annotations

from dataclasses import replace

import torch

from engine.evaluation.psi.returns import PREFIX, VIEWS, errors, returns, summary
from engine.model.config import CameraConfig
from engine.training.data.latents import Pool
from engine.training.data.windows import REACH, recalls
from engine.world.motion import LEFT, RIGHT
from tests.rigs.engine import tiny

C = tiny.DIT
AWAY = 28


def a_pool(count: int = 6) -> Pool:
    """Out to the right and back."""
    g = torch.Generator().manual_seed(0)
    length = 2 * AWAY
    latents = torch.randn(count, length, C.channels, C.latent_height, C.latent_width, generator=g)
    actions = torch.full((count, length), RIGHT)
    actions[:, AWAY:] = LEFT
    return Pool(latents.half(), torch.zeros(count, length, 5, dtype=torch.int64), actions)


def without_places() -> CameraConfig:
    assert C.camera is not None
    return replace(C.camera, places=False)


def test_returns_are_where_only_memory_can_know() -> None:
    pool = a_pool()
    found = returns(pool, C.segment, 9)
    assert len(found.start) == 9
    ends = recalls(pool.actions)
    for row, start in zip(found.episode.tolist(), found.start.tolist(), strict=True):
        assert start > REACH
        assert ends[row, start : start + C.segment].all()
    again = returns(pool, C.segment, 9)
    assert torch.equal(again.start, found.start)
    changing = replace(pool, attributes=torch.arange(2 * AWAY)[None, :, None].expand(6, -1, 5))
    assert not len(returns(changing, C.segment, 9).start)  # content that changes its looks does not return


def test_a_model_without_use_for_memory_has_nothing_to_lose() -> None:
    config = replace(C, memory=replace(C.memory, key_bias=-10000.0), camera=without_places())
    pool = a_pool()
    found = errors(tiny.dit(config), pool, returns(pool, C.segment, 6))
    assert found["own"] == found["short"] == found["another"]
    assert VIEWS not in found
    worth = summary(found)
    assert worth["short"] is not None
    assert worth["short"].value == 0


def test_a_model_that_uses_memory_is_worse_with_another_or_a_short_one() -> None:
    pool = a_pool()
    windows = returns(pool, C.segment, 6)
    found = errors(tiny.dit(), pool, windows)
    assert len(found["own"]) == 6
    assert found["own"] != found["another"]
    assert found["own"] != found["short"]
    assert REACH // C.segment < PREFIX  # otherwise both would be the same


def test_views_of_the_way_count_apart_from_psi() -> None:
    pool = a_pool()
    config = replace(C, memory=replace(C.memory, key_bias=-10000.0))
    found = errors(tiny.dit(config), pool, returns(pool, C.segment, 6))
    assert found["own"] == found["short"] == found["another"]
    assert found["own"] != found[VIEWS]
