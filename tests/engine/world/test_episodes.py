"""Motion, change and chance of episodes, without pictures."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.world.attributes import ACTIONS, FIELDS, VALUES
from engine.world.episodes import CHANGE_FRAMES, Episodes, from_script, sample_episodes
from tests.rigs.engine.episodes import rows

IDLE, LEFT, RIGHT, JUMP = range(len(ACTIONS))


def play(actions: list[int], attributes: Tensor | None = None) -> Episodes:
    if attributes is None:
        attributes = torch.zeros(len(actions), len(FIELDS), dtype=torch.int64)
    return from_script(attributes[None], torch.tensor([actions]), torch.tensor([3]), camera=160)


def test_camera_obeys_actions_by_exact_pixels() -> None:
    camera = play([RIGHT, IDLE, LEFT, LEFT]).camera[0]
    assert camera.tolist() == [164, 168, 172, 176, *[176] * 4, *range(172, 140, -4)]


def test_jump_is_an_arc_of_eight_frames_without_walking() -> None:
    episodes = play([JUMP, RIGHT, IDLE])
    assert episodes.hero_y[0].tolist() == [8.75, 15, 18.75, 20, 18.75, 15, 8.75, 0, 0, 0, 0, 0]
    assert episodes.camera[0].tolist() == [160] * 4 + [164, 168, 172, 176] + [176] * 4


def test_held_jump_hops_again_and_again() -> None:
    height = play([JUMP] * 6).hero_y[0].view(3, 8)
    assert (height == height[0]).all()
    assert (height[:, -1] == 0).all()


def test_hero_faces_its_last_direction() -> None:
    facing = play([IDLE, LEFT, JUMP, IDLE, RIGHT]).facing[0, ::4]
    assert facing.tolist() == [1, -1, -1, -1, 1]


def test_changes_begin_at_once_and_end_on_time() -> None:
    attributes = torch.zeros(12, len(FIELDS), dtype=torch.int64)
    attributes[2:] = 1
    episodes = play([IDLE] * 12, attributes)
    for name, frames in CHANGE_FRAMES.items():
        share = episodes.weights[name][0, :, 1]
        assert share[7] == 0
        assert share[8] == pytest.approx(1 / frames)
        assert share[8 + frames - 2] < 1
        assert (share[8 + frames - 1 :] == 1).all()


def test_change_upon_change_stays_a_mixture() -> None:
    attributes = torch.arange(8)[:, None] % torch.tensor([len(VALUES[name]) for name in FIELDS])
    for weights in play([IDLE] * 8, attributes).weights.values():
        assert torch.allclose(weights.sum(2), torch.ones(1, 32))
        assert (weights >= 0).all()


def test_sampling_is_determined_by_the_generator() -> None:
    first = sample_episodes(6, 20, torch.Generator().manual_seed(1))
    again = sample_episodes(6, 20, torch.Generator().manual_seed(1))
    other = sample_episodes(6, 20, torch.Generator().manual_seed(2))
    assert torch.equal(first.camera, again.camera)
    assert torch.equal(first.attributes, again.attributes)
    assert not torch.equal(first.seed, other.seed)


def test_journeys_return_to_where_they_began() -> None:
    episodes = sample_episodes(64, 24, torch.Generator().manual_seed(3), journeys=1.0)
    for actions, camera in zip(episodes.actions, episodes.camera[:, 3::4], strict=True):
        turns = [
            (i, n)
            for i in range(24)
            for n in range(3, 13)
            if i + 2 * n <= 24
            and set(actions[i : i + n].tolist()) | set(actions[i + n : i + 2 * n].tolist()) == {LEFT, RIGHT}
            and len(set(actions[i : i + n].tolist())) == 1
            and len(set(actions[i + n : i + 2 * n].tolist())) == 1
        ]
        assert turns
        begin, reach = turns[-1]
        before = camera[begin] - 16 * (1 if actions[begin] == RIGHT else -1)
        assert camera[begin + 2 * reach - 1] == before


def test_rate_of_changes_is_the_one_asked_for() -> None:
    for rate in (0.0, 1.5, 6.0):
        episodes = sample_episodes(800, 29, torch.Generator().manual_seed(4), changes=rate)
        changed = (episodes.attributes[:, 1:] != episodes.attributes[:, :-1]).any(2)
        assert changed.sum(1).float().mean() == pytest.approx(rate, abs=0.1 + 0.05 * rate)


def test_all_values_and_actions_occur() -> None:
    episodes = sample_episodes(400, 28, torch.Generator().manual_seed(5))
    for i, name in enumerate(FIELDS):
        assert len(set(episodes.attributes[..., i].flatten().tolist())) == len(VALUES[name])
    share = torch.bincount(episodes.actions.flatten()) / episodes.actions.numel()
    assert share[RIGHT] > 0.3
    assert share[LEFT] > 0.2
    assert share[IDLE] > 0.05
    assert share[JUMP] > 0.02


def test_window_and_select_cut_everything_alike() -> None:
    episodes = sample_episodes(5, 12, torch.Generator().manual_seed(6))
    part = rows(episodes.window(4, 9), torch.tensor([1, 3]))
    assert (part.batch, part.latents) == (2, 5)
    assert torch.equal(part.camera, episodes.camera[[1, 3], 16:36])
    assert torch.equal(part.weights["time"], episodes.weights["time"][[1, 3], 16:36])


def test_mismatched_scripts_are_refused() -> None:
    with pytest.raises(ValueError, match="wanted"):
        from_script(torch.zeros(1, 3, 4).long(), torch.zeros(1, 3).long(), torch.zeros(1).long())
    with pytest.raises(ValueError, match="one seed"):
        from_script(torch.zeros(1, 3, 5).long(), torch.zeros(1, 3).long(), torch.zeros(2).long())
