"""Windows of the pool: where changes may lie, what a fresh scene sees, what only memory can know."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.training.data.latents import Pool
from engine.training.data.windows import (
    REACH,
    Windows,
    change_age,
    frames_before,
    recalls,
    sample_journeys,
    sample_windows,
)
from engine.world.attributes import ACTIONS

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


def test_the_age_of_a_change_counts_from_its_frame() -> None:
    attributes = torch.tensor([[[0, 0], [0, 0], [1, 0], [1, 0], [1, 1], [1, 1]]])
    assert change_age(attributes)[0].tolist() == [1000, 1001, 0, 1, 0, 1]
    assert change_age(attributes[..., 1:])[0].tolist() == [1000, 1001, 1002, 1003, 0, 1]


def test_windows_are_drawn_from_torchs_generator_alone() -> None:
    """A resumed run is seeded; hidden randomness would make it another one."""
    first, second = (windows_of(pool(), fresh=0.3) for _ in range(2))
    pairs: list[tuple[Tensor, Tensor]] = [
        (first.episode, second.episode),
        (first.start, second.start),
        (first.scene, second.scene),
    ]
    assert all(torch.equal(a, b) for a, b in pairs)


IDLE, LEFT, RIGHT, JUMP = range(len(ACTIONS))


def test_what_comes_back_is_recalled_once_the_history_has_forgotten_it() -> None:
    out, back = 24, 24
    actions = torch.tensor([[RIGHT] * out + [LEFT] * back])
    # at frame `at` of the way back, the left edge was last seen in frame 46 - at; frame 47 is a step beyond
    forgotten = [at for at in range(out, out + back - 1) if at - (46 - at) > REACH]
    assert recalls(actions)[0].nonzero()[:, 0].tolist() == forgotten == list(range(33, 47))


def test_new_land_and_standing_still_recall_nothing() -> None:
    for action in (RIGHT, LEFT, IDLE, JUMP):
        assert not recalls(torch.full((1, 60), action)).any()


def test_journeys_are_entered_where_they_come_back() -> None:
    actions = torch.tensor([[RIGHT] * 24 + [LEFT] * 24] * 3 + [[RIGHT] * 48])
    p = Pool(torch.zeros(4, 48, 1, 1, 1).half(), torch.zeros(4, 48, 5, dtype=torch.int64), actions)
    torch.manual_seed(0)
    w = sample_journeys(p, 64, SEGMENT, 2)
    ends = recalls(actions)[w.episode, w.start + SEGMENT - 1]
    assert float(ends.float().mean()) > 0.95
    assert not w.scene.any()
    assert int(w.start.max()) + 2 * SEGMENT <= 48
