"""A trained model plays like a session. FramePack-F0 plays in blocks from the latest picture."""

from __future__ import annotations

import itertools
from contextlib import closing
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from engine.backends.artifact import open_artifact
from engine.backends.pytorch import load_model
from engine.backends.registry import load_backend
from engine.errors import InvalidInput
from engine.model.conditions import Conditions
from engine.model.signature import ModelSpec
from engine.model.text.encoder import TextConfig
from engine.script import Entry
from engine.training.data.backwards import BLOCK
from engine.types import Action, Prompt
from engine.variants.played import played
from engine.variants.player import Settings, actions, in_blocks, model_of
from engine.world.attributes import ACTIONS
from tests.rigs.engine import tiny

SETTINGS = Settings(steps=2, first_steps=3, context_noise=0.1)
SEED = 5
WIDE = replace(tiny.DIT, slots=TextConfig().slots)  # reads the built-in model's text encoder


def spec() -> ModelSpec:
    s = SETTINGS
    return tiny.world_model().spec(
        name="tiny", fps=16, steps=s.steps, first_steps=s.first_steps, context_noise=s.context_noise
    )


def test_a_variant_plays_like_the_served_model() -> None:
    """The built-in model's networks, played as a variant, give the same video bit for bit."""
    artifact = open_artifact(None)
    network, s = load_model(artifact), artifact.spec
    settings = Settings(s.steps, s.first_steps, s.context_noise)
    variant = model_of("variant", network.dit, network.autoencoder, settings)
    with closing(load_backend("reference")) as backend:
        served = played("wander", backend, network.autoencoder)
        script = [Entry(0.6, Action("right"))]
        videos = [
            model.video("a red fox in a forest", SEED, 2, script, steps=1) for model in (variant, served)
        ]
    assert torch.equal(*videos)


def probabilities() -> Tensor:
    return torch.full((1, sum(tiny.DIT.slots)), 0.2)


def test_f0_makes_two_seconds_at_a_time_last_segment_first() -> None:
    """The order of the segments, their history and their keys."""
    dit, seen = tiny.dit(), list[Conditions]()

    def recorded(model: object, noise: Tensor, steps: int, given: Conditions) -> Tensor:
        seen.append(given.map(Tensor.clone))
        return torch.full_like(noise, float(len(seen)))

    still = Settings(context_noise=0.0)
    keys = itertools.chain([0], [ACTIONS.index("right")] * 4, itertools.repeat(0))
    blocks = in_blocks(dit, probabilities(), SEED, keys, still, sample=recorded)
    made = list(itertools.islice(blocks, 1 + 2 * BLOCK))
    assert [float(m[0, 0, 0, 0]) for m in made] == [1, 5, 4, 3, 2, 9, 8, 7, 6]
    assert [float(g.index) for g in seen] == [0, 4, 3, 2, 1, 4, 3, 2, 1]
    assert [float(g.anchor[0, 0, 0, 0, 0]) for g in seen] == [0, 1, 1, 1, 1, 2, 2, 2, 2]
    history = [int((g.history[0, :, 0, 0, 0] > 0).sum()) for g in seen]
    assert history == [0, *[2 * k for k in range(4)], *[2 * k for k in range(4)]]
    keys_of_third = seen[2].actions
    assert keys_of_third is not None
    assert (keys_of_third == ACTIONS.index("left")).all()  # a walk to the right, in reversed time


def test_videos_depend_on_the_seed_alone() -> None:
    model = tiny.world_model()
    for backwards in (False, True):
        one = model_of("x", tiny.dit(WIDE), model.autoencoder, SETTINGS, backwards=backwards)
        first = one.video("a fox", SEED, 3)
        assert first.shape == (3 * one.spec.frames_per_segment, 3, 48, 80)
        assert torch.equal(one.video("a fox", SEED, 2), first[: 2 * one.spec.frames_per_segment])
        assert not torch.equal(one.video("a fox", SEED + 1, 3), first)


def test_keys_apply_from_the_nearest_boundary_and_prompts_cannot_change() -> None:
    own = spec()
    script = [Entry(0.0, Action("right")), Entry(1.4 * own.segment_s, Action("left"))]
    found = list(itertools.islice(actions(script, own), 4))
    assert [ACTIONS[k] for k in found] == ["right", "left", "left", "left"]
    with pytest.raises(InvalidInput, match="no change of prompt"):
        next(actions([Entry(0.0, Prompt("night"))], own))
