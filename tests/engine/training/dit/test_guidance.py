"""Guidance that is trained in: what is pushed, and how far."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engine.errors import InvalidInput
from engine.model.config import build
from engine.model.wander.transformer import WanderDiT
from engine.training.dit.guidance import push, silence, silenced
from engine.training.dit.objectives import teacher_forcing
from engine.training.recipe import Phase
from tests.engine.training.dit.test_objectives import spied
from tests.rigs.engine import tiny
from tests.rigs.engine.training_rig import some_chains, trainable

PHASE = Phase(steps=1, context_noise=0.0, bptt=8)


def test_silence_leaves_every_attribute_unsaid() -> None:
    said = silence(tiny.DIT)
    assert said.shape == (1, sum(tiny.DIT.slots))
    starts = torch.tensor([0, *tiny.DIT.slots[:-1]]).cumsum(0)
    assert said[0].nonzero()[:, 0].tolist() == starts.tolist()


def test_a_share_of_the_chains_says_nothing_from_end_to_end() -> None:
    chains = some_chains(count=64)
    torch.manual_seed(0)
    quiet = silenced(chains, 0.25, tiny.DIT)
    without = (quiet.prompts == silence(tiny.DIT)).all(-1)
    assert torch.equal(without.any(1), without.all(1))
    assert 8 <= int(without.all(1).sum()) <= 24
    assert torch.equal(quiet.prompts[~without], chains.prompts[~without])
    assert torch.equal(silenced(chains, 0.0, tiny.DIT).prompts, chains.prompts)


def test_the_target_moves_away_from_what_the_averaged_model_makes_without_a_prompt() -> None:
    mean = trainable()
    _, calls = spied(PHASE)
    x, t, _, given, _ = calls[0]
    given = given.map(torch.Tensor.detach)
    moved = push(mean, x, t, given, 0.5)
    text, pooled = mean.text_slots(silence(tiny.DIT))
    nothing = replace(given, text=text.expand_as(given.text), pooled=pooled.expand_as(given.pooled))
    with torch.no_grad():
        difference = mean(x, t, 0 * t, given) - mean(x, t, 0 * t, nothing)
    assert difference.abs().max() > 0
    torch.testing.assert_close(moved, 0.5 * difference)
    assert push(mean, x, t, nothing, 0.5).abs().max() == 0  # who says nothing is pushed nowhere


def test_a_guided_phase_learns_towards_the_moved_target() -> None:
    model, mean = trainable(), trainable()
    plain, guided = (_loss(model, mean, replace(PHASE, guidance=weight)) for weight in (0.0, 0.5))
    assert plain != guided


def _loss(model: WanderDiT, mean: WanderDiT, phase: Phase) -> float:
    chains = some_chains()
    torch.manual_seed(3)
    return sum(float(part.detach()) for part in teacher_forcing(model, chains, phase, mean))


@pytest.mark.parametrize(("key", "value"), [("guidance", 1.0), ("guidance", -0.1), ("silent", 1.5)])
def test_shares_that_cannot_be_meant_are_refused(key: str, value: float) -> None:
    with pytest.raises(InvalidInput, match=key):
        build(Phase, {"steps": 1, key: value})
