"""A model in training plays as a session would; F0 plays in blocks from the latest picture."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.backends.pytorch import TorchBackend
from engine.errors import InvalidInput
from engine.model.signature import ModelSpec
from engine.runtime.segment.generator import Generator, Job
from engine.runtime.segment.noise import CONTEXT, gaussian
from engine.runtime.state.state import SessionState
from engine.script import Entry
from engine.training.data.backwards import BLOCK
from engine.types import Action, Prompt
from engine.variants import player
from engine.variants.player import Noise, Settings, actions, forwards, in_blocks, model_of
from engine.world.attributes import ACTIONS
from tests.rigs import tiny

SETTINGS = Settings(steps=2, first_steps=3, context_noise=0.1)
SEED = 5


def spec() -> ModelSpec:
    s = SETTINGS
    return tiny.world_model().spec(
        name="tiny", fps=16, steps=s.steps, first_steps=s.first_steps, context_noise=s.context_noise
    )


class SessionNoise(Noise):
    """The noise of a session, so that both can be compared number by number."""

    def __init__(self, seed: int, dit: object) -> None:
        self.seed, self.index = seed, 0

    def of(self, shape: object) -> Tensor:
        made = torch.from_numpy(gaussian(self.seed, 0, self.index, tuple(shape)[1:]))[None]  # type: ignore[arg-type]
        self.index += 1
        return made

    def on(self, history: Tensor, level: float) -> dict[str, Tensor]:
        noise = torch.from_numpy(gaussian(self.seed, 0, self.index, tuple(history.shape[1:]), CONTEXT))
        inside = history.flatten(2).any(-1)[..., None, None, None]
        mixed = torch.where(inside, history + level * (noise - history), history)
        return {"history": mixed, "sigma": torch.full((1,), level)}


def test_it_makes_what_a_session_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    model, own = tiny.world_model(), spec()
    ids, mask = np.array([[1, 2, 3, 0, 0, 0]]), np.array([[1, 1, 1, 0, 0, 0]], np.float32)
    roles = model.roles(own)
    device = torch.device("cpu")
    backend = TorchBackend("torch", own, roles, lambda _: (ids[0], mask[0]), device)
    generator, state = Generator(backend), SessionState.zeros(own)
    generator.conditioner.start_scene(state, "a red fox", seed=SEED, scene=0)
    keys = [2, 2, 0, 1]
    wanted = []
    for key in keys:
        latents = generator.denoise([Job(state, key)])
        wanted.append(latents[0])
        generator.finish([Job(state, key)], latents)
    with torch.no_grad():
        said = roles["encode_text"].read(torch.from_numpy(ids), torch.from_numpy(mask))  # type: ignore[operator]
    monkeypatch.setattr(player, "Noise", SessionNoise)
    made = list(itertools.islice(forwards(model.dit, said, SEED, iter(keys), SETTINGS), len(keys)))
    for a, b in zip(made, wanted, strict=True):
        np.testing.assert_allclose(a.numpy(), b, atol=2e-5)


def said() -> Tensor:
    return torch.full((1, sum(tiny.DIT.slots)), 0.2)


def test_f0_makes_two_seconds_at_a_time_last_segment_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which segment is made when, under how much history, with which keys."""
    dit, seen = tiny.dit(), []

    def watched(model: object, noise: Tensor, steps: int, given: dict[str, Tensor]) -> Tensor:
        seen.append({k: v.clone() for k, v in given.items()})
        return torch.full_like(noise, float(len(seen)))

    monkeypatch.setattr(player, "sample_segment", watched)
    still = Settings(context_noise=0.0)
    keys = itertools.chain([0], [ACTIONS.index("right")] * 4, itertools.repeat(0))
    made = list(itertools.islice(in_blocks(dit, said(), SEED, keys, still), 1 + 2 * BLOCK))
    assert [float(m[0, 0, 0, 0]) for m in made] == [1, 5, 4, 3, 2, 9, 8, 7, 6]
    assert [float(g["index"]) for g in seen] == [0, 4, 3, 2, 1, 4, 3, 2, 1]
    assert [float(g["anchor"][0, 0, 0, 0, 0]) for g in seen] == [0, 1, 1, 1, 1, 2, 2, 2, 2]
    history = [int((g["history"][0, :, 0, 0, 0] > 0).sum()) for g in seen]
    assert history == [0, *[2 * k for k in range(4)], *[2 * k for k in range(4)]]
    assert (seen[2]["actions"] == ACTIONS.index("left")).all()  # back from where a walk to the right led


def test_videos_do_not_depend_on_what_else_was_played_and_have_their_pictures_in_order() -> None:
    model, said_ = tiny.world_model(), said()
    plays = [
        model_of(n, model.dit, model.autoencoder, lambda _: said_, spec(), SETTINGS, backwards=b)
        for n, b in (("f1", False), ("f0", True))
    ]
    for one in plays:
        first = one.video("", SEED, 3)
        assert first.shape == (3 * one.spec.frames_per_segment, 3, 48, 80)
        assert torch.equal(one.video("", SEED, 2), first[: 2 * one.spec.frames_per_segment])
        assert not torch.equal(one.video("", SEED + 1, 3), first)


def test_keys_count_from_the_nearest_boundary_and_prompts_cannot_change() -> None:
    own = spec()
    script = [Entry(0.0, Action("right")), Entry(1.4 * own.segment_s, Action("left"))]
    found = list(itertools.islice(actions(script, own), 4))
    assert [ACTIONS[k] for k in found] == ["right", "left", "left", "left"]
    with pytest.raises(InvalidInput, match="no change of prompt"):
        next(actions([Entry(0.0, Prompt("night"))], own))
