"""FramePack-F0 on turned time: which frames, actions and anchors a segment is given."""

from __future__ import annotations

import torch

from engine.training.data.backwards import BLOCK, block_chains, turned, turned_pool
from engine.training.data.latents import Pool
from engine.training.data.windows import Windows
from engine.world.motion import IDLE, JUMP, LEFT, RIGHT
from tests.rigs.engine import tiny

C = tiny.DIT
LENGTH = 24


def a_pool(count: int = 64) -> Pool:
    """Latents that say which frame of the episode they are, from 1 on."""
    shape = (count, LENGTH, C.channels, C.latent_height, C.latent_width)
    number = 1 + torch.arange(LENGTH, dtype=torch.float16)
    latents = number[None, :, None, None, None].expand(shape).clone()
    actions = torch.randint(0, 4, (count, LENGTH), generator=torch.Generator().manual_seed(0))
    return Pool(latents, torch.zeros(count, LENGTH, 5, dtype=torch.int64), actions)


def test_turned_actions_undo_the_walk_that_followed() -> None:
    """Frame 2 was reached from frame 1 by a walk to the right: from 2 back to 1 it goes left."""
    actions = torch.tensor([[IDLE, IDLE, RIGHT, JUMP, LEFT]])
    back = turned(actions)
    assert back[0].tolist() == [IDLE, RIGHT, IDLE, LEFT, IDLE]


def test_jumps_stay_with_their_frames_where_nobody_walks() -> None:
    assert turned(torch.tensor([[IDLE, JUMP, IDLE, IDLE]]))[0].tolist() == [IDLE, IDLE, JUMP, IDLE]


def test_history_is_what_follows_and_the_anchor_is_what_comes_before() -> None:
    pool = turned_pool(a_pool())
    torch.manual_seed(0)
    count = len(pool)
    windows = Windows(torch.arange(count), torch.full((count,), 10), torch.full((count,), 10))
    chains = block_chains(pool, windows, torch.zeros(count, dtype=torch.bool), 0, C)
    target = chains.targets[:, 0, :, 0, 0, 0]
    assert (target[:, 0] == LENGTH - 10).all()  # time runs backwards within a segment
    assert (target[:, 1] == LENGTH - 11).all()
    between = chains.number - 1
    assert set(between.tolist()) == {0.0, 1.0, 2.0, 3.0}
    earliest = target[:, -1]
    assert torch.equal(chains.anchor[:, 0, 0, 0, 0], earliest - C.segment * between - 1)
    made = chains.history[:, :, 0, 0, 0]
    assert torch.equal((made > 0).sum(1).float(), C.segment * (BLOCK - 1 - between))
    nearest = torch.where(between < BLOCK - 1, target[:, 0] + 1, 0.0)
    assert torch.equal(made[:, -1], nearest)


def test_a_scene_that_starts_from_nothing_has_no_anchor_and_no_history() -> None:
    pool = turned_pool(a_pool(8))
    windows = Windows(
        torch.arange(8), torch.full((8,), LENGTH - C.segment), torch.zeros(8, dtype=torch.int64)
    )
    fresh = torch.ones(8, dtype=torch.bool)
    chains = block_chains(pool, windows, fresh, 0, C)
    assert not chains.anchor.any()
    assert not chains.number.any()
    assert not chains.history.any()
    at_the_start = block_chains(pool, windows, ~fresh, 0, C)  # nothing lies before it: the same
    assert not at_the_start.anchor.any()
