"""Windows of the pool: where changes may lie, what a fresh scene sees, how the pool is renewed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.training.latents import (
    Pool,
    Windows,
    change_age,
    frames_before,
    frames_from,
    join,
    sample_windows,
)
from engine.training.teacher_forcing import grow

SEGMENT, LENGTH = 2, 20


def pool(count: int = 12, *, changes: bool = True, seed: int = 0) -> Pool:
    """Latents that say where they are: episode in channel 0, 1 + latent frame in channel 1."""
    g = torch.Generator().manual_seed(seed)
    latents = torch.zeros(count, LENGTH, 2, 2, 2)
    latents[:, :, 0] = torch.arange(count)[:, None, None, None]
    latents[:, :, 1] = 1 + torch.arange(LENGTH)[None, :, None, None]
    attributes = torch.zeros(count, LENGTH, 5, dtype=torch.int64)
    if changes:
        for episode in range(count):
            at = int(torch.randint(2, LENGTH, (), generator=g))
            attributes[episode, at:, int(torch.randint(0, 5, (), generator=g))] = 1
    actions = torch.randint(0, 4, (count, LENGTH), generator=g)
    return Pool(latents.half(), attributes, actions)


def windows_of(p: Pool, *, segments: int = 1, fresh: float = 0.0, batch: int = 400) -> Windows:
    torch.manual_seed(1)
    return sample_windows(p, batch, SEGMENT, segments, fresh=fresh)


@pytest.mark.parametrize("segments", [1, 3])
def test_a_change_never_lies_inside_the_first_segment(segments: int) -> None:
    """Live, prompts take effect at a segment's first frame; the model must not learn anything else."""
    p = pool()
    w = windows_of(p, segments=segments)
    first, second = (p.attributes[w.episode, w.start + i] for i in (0, 1))
    assert torch.equal(first, second)


@pytest.mark.parametrize("segments", [1, 3])
def test_windows_lie_inside_their_episode_and_after_their_scenes_begin(segments: int) -> None:
    w = windows_of(pool(), segments=segments, fresh=0.3)
    assert int(w.start.min()) >= 0
    assert int(w.start.max()) + segments * SEGMENT <= LENGTH
    assert bool((w.scene >= 0).all())
    assert bool((w.scene <= w.start).all())


def test_changes_are_rare_in_the_data_and_not_in_the_batch() -> None:
    p = pool(60)
    w = windows_of(p)
    young = change_age(p.attributes)[w.episode, w.start] < 6
    everywhere = change_age(p.attributes)[:, : LENGTH - SEGMENT + 1] < 6
    assert float(young.float().mean()) > max(0.45, 1.4 * float(everywhere.float().mean()))


def test_a_fresh_window_sees_no_history() -> None:
    p = pool()
    w = windows_of(p, fresh=1.0)
    assert torch.equal(w.scene, w.start)
    assert not frames_before(p, w, w.start, 19).any()


def test_history_is_what_came_before_in_the_scene_and_zero_before_it() -> None:
    p = pool()
    w = Windows(torch.tensor([3, 4]), torch.tensor([6, 2]), torch.tensor([4, 0]))
    history = frames_before(p, w, w.start, 5)[:, :, :, 0, 0]
    assert history[0].tolist() == [[0, 0], [0, 0], [0, 0], [3, 5], [3, 6]]  # frames 4 and 5, as 1 + frame
    assert history[1].tolist() == [[0, 0], [0, 0], [0, 0], [4, 1], [4, 2]]


def test_targets_come_with_their_actions_and_the_attributes_of_their_last_frame() -> None:
    p = pool()
    w = Windows(torch.tensor([3, 4]), torch.tensor([6, 2]), torch.tensor([4, 0]))
    latents, actions, attributes = frames_from(p, w, w.start, SEGMENT)
    assert latents[:, :, 1, 0, 0].tolist() == [[7, 8], [3, 4]]
    assert torch.equal(actions, torch.stack([p.actions[3, 6:8], p.actions[4, 2:4]]))
    assert torch.equal(attributes, torch.stack([p.attributes[3, 7], p.attributes[4, 3]]))


def test_the_age_of_a_change_counts_from_its_frame() -> None:
    attributes = torch.tensor([[[0, 0], [0, 0], [1, 0], [1, 0], [1, 1], [1, 1]]])
    assert change_age(attributes)[0].tolist() == [1000, 1001, 0, 1, 0, 1]
    assert change_age(attributes[..., 1:])[0].tolist() == [1000, 1001, 1002, 1003, 0, 1]


def numbers(p: Pool) -> list[int]:
    return [int(x) for x in p.latents[:, 0, 0, 0, 0]]


def test_the_pool_grows_to_its_limit_and_then_forgets_the_oldest() -> None:
    def more(first: int) -> Pool:
        p = pool(4)
        p.latents[:, :, 0] += first
        return p

    p, at = pool(4), 0
    for first in (10, 20, 30):
        p, at = grow(p, more(first), at, limit=10)
    assert numbers(p) == [30, 31, 32, 33, 10, 11, 12, 13, 20, 21, 22, 23]
    assert at == 4
    assert join([p, p]).actions.shape == (2 * len(p), LENGTH)


def test_replacing_wraps_round() -> None:
    p, other = pool(6), pool(4)
    other.latents[:, :, 0] += 50
    p.replace(4, other)
    assert numbers(p) == [52, 53, 2, 3, 50, 51]


def test_windows_are_drawn_from_torchs_generator_alone() -> None:
    """A resumed run is seeded; hidden randomness would make it another one."""
    first, second = (windows_of(pool(), fresh=0.3) for _ in range(2))
    pairs: list[tuple[Tensor, Tensor]] = [
        (first.episode, second.episode),
        (first.start, second.start),
        (first.scene, second.scene),
    ]
    assert all(torch.equal(a, b) for a, b in pairs)
