"""The three objectives: what the next segment finds, where gradients go, and what a loss of one means."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from engine.model import flow
from engine.model.conditions import Conditions
from engine.model.wander.transformer import WanderDiT
from engine.training.dit.objectives import OBJECTIVES, hero_mask, noisy_history, sample_t
from engine.training.recipe import Phase
from tests.rigs.engine import tiny
from tests.rigs.engine.training_rig import some_chains, trainable

TEACHER = Phase(steps=1, context_noise=0.0, bptt=8)
DIRECT = replace(TEACHER, objective="direct", blur_below=0.0)
STUDENT = replace(TEACHER, objective="student", rollout_steps=2)


def losses(model: WanderDiT, phase: Phase, seed: int = 5, **rules: Any) -> list[Tensor]:
    chains = some_chains(**rules)
    torch.manual_seed(seed)
    return list(OBJECTIVES[phase.objective](model, chains, phase))


class Call(NamedTuple):
    x: Tensor
    t: Tensor
    d: Tensor
    given: Conditions
    net: Tensor


class Spy(WanderDiT):
    """Keeps what its transformer was given."""

    def network(self, x: Tensor, t: Tensor, d: Tensor, given: Conditions) -> Tensor:
        out = super().network(x, t, d, given)
        self.calls = [*getattr(self, "calls", []), Call(x, t, d, given, out)]
        return out

    def estimate(self, call: Call) -> Tensor:
        """Eq. 7 by what was answered in a call."""
        x, t, _, given, net = call
        velocity = self.precondition.velocity(x, t, net, self.base(given), given.context)
        return flow.one_step(x, velocity, t)


def spied(phase: Phase, mean: WanderDiT | None = None, **rules: Any) -> tuple[Spy, list[Call]]:
    torch.manual_seed(0)
    model = Spy(tiny.DIT)
    chains = some_chains(**rules)
    list(OBJECTIVES[phase.objective](model, chains, phase, mean))
    return model, model.calls


@torch.no_grad()
def test_a_network_that_answers_nothing_starts_at_a_loss_of_about_one() -> None:
    model = trainable()
    model.proj_out.weight.zero_()
    (loss,) = losses(model, replace(TEACHER, hero_weight=1.0), count=64, segments=1, fresh=1.0)
    assert float(loss) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("phase", [TEACHER, DIRECT, STUDENT], ids=lambda p: p.objective)
def test_a_step_is_a_function_of_the_seed(phase: Phase) -> None:
    model = trainable()
    first, again, other = losses(model, phase), losses(model, phase), losses(model, phase, seed=6)
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])


def test_teacher_forcing_goes_on_from_the_truth() -> None:
    chains = some_chains()
    history = spied(TEACHER)[1][1].given.history
    torch.testing.assert_close(history[:, -2:], chains.targets[:, 0])
    torch.testing.assert_close(history[:, :-2], chains.history[:, 2:])


def test_direct_forcing_goes_on_from_the_one_step_estimate_of_the_truth() -> None:
    """Eq. 7: x̃ = x_t + (1 − t) u with the very x_t and u of the training step."""
    model, (first, second) = spied(DIRECT)
    torch.testing.assert_close(second.given.history[:, -2:], model.estimate(first))
    assert not first.d.any()


def test_below_a_small_t_the_truth_stands_in_for_the_blur() -> None:
    chains = some_chains()
    _, (_, second) = spied(replace(DIRECT, blur_below=1.0))
    torch.testing.assert_close(second.given.history[:, -2:], chains.targets[:, 0])


def test_with_jumps_the_estimate_is_one_jump_all_the_way() -> None:
    model, (trained, jump, second) = spied(replace(DIRECT, split=0.5), trainable(), count=4)
    torch.testing.assert_close(jump.d, 1 - jump.t)
    assert torch.equal(jump.x, trained.x)
    torch.testing.assert_close(second.given.history[:, -2:], model.estimate(jump))
    assert int((trained.d > 0).sum()) == 2


def test_student_forcing_goes_on_from_a_rollout_in_as_many_steps() -> None:
    _, calls = spied(STUDENT)
    assert len(calls) == 4  # two segments trained, two steps between them
    assert [float(c.t[0]) for c in calls[1:3]] == [0.0, 0.5]
    assert not any(c.net.requires_grad for c in calls[1:3])
    assert not torch.equal(calls[3].given.history[:, -2:], some_chains().targets[:, 0])


@pytest.mark.parametrize("phase", [DIRECT, STUDENT], ids=lambda p: p.objective)
def test_no_more_chains_are_forced_than_asked_for(phase: Phase) -> None:
    chains = some_chains()
    history = spied(replace(phase, forced=0.0))[1][-1].given.history
    torch.testing.assert_close(history[:, -2:], chains.targets[:, 0])


def test_gradients_reach_every_part() -> None:
    model = trainable()
    for embedder in (model.jump_embedder, model.noise_embedder):  # silent at the start, so is what feeds it
        torch.nn.init.normal_(embedder.linear_2.weight, std=0.02)
    for loss in losses(model, replace(TEACHER, context_noise=0.5), count=12, segments=2, fresh=0.2):
        loss.backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def memory_gradient(phase: Phase, segments: int) -> float:
    """With no prefix and fresh scenes, Memorize is used only between the chain's own segments."""
    model = trainable()
    for loss in losses(model, phase, segments=segments, prefix=0, fresh=1.0):
        loss.backward()
    grad = model.memorize.queries.grad
    return 0.0 if grad is None else float(grad.abs().max())


def test_a_later_segment_teaches_the_memory_of_an_earlier_one() -> None:
    assert memory_gradient(TEACHER, 1) == 0
    assert memory_gradient(TEACHER, 2) > 0


def test_gradients_run_back_through_as_many_updates_as_asked_for_and_one_update_follows_all() -> None:
    model = trainable()
    parts = losses(model, replace(TEACHER, bptt=2), segments=5)
    assert len(parts) == 3  # clips 1 and 2, 3 and 4, 5
    whole = losses(model, TEACHER, segments=5)
    assert sum(float(p.detach()) for p in parts) == pytest.approx(float(whole[0].detach()), rel=1e-5)
    for part in parts:
        part.backward()


def test_the_prefix_teaches_the_memory_only_within_reach() -> None:
    """bptt = 1: the oldest of two segments before the chain is seen, but not learned from."""
    model = trainable()
    chains = some_chains(count=4, segments=1)
    chains.has_past[:, 0] = True
    chains.has_past[:, 1] = False
    for reach, learned in ((1, False), (2, True)):
        model.zero_grad()
        (loss,) = OBJECTIVES["teacher"](model, chains, replace(TEACHER, bptt=reach))
        loss.backward()
        grad = model.memorize.queries.grad
        assert (grad is not None and bool(grad.any())) == learned


@pytest.mark.parametrize(
    "phase",
    [TEACHER, DIRECT, STUDENT, replace(DIRECT, split=0.5)],
    ids=["teacher", "direct", "student", "split"],
)
def test_every_objective_lowers_its_loss(phase: Phase) -> None:
    """A few chains under one noise can be learned by heart."""
    model, mean, chains = trainable(), trainable(), some_chains(4)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    seen = []
    for _ in range(25):
        torch.manual_seed(0)
        seen.append(0.0)
        for loss in OBJECTIVES[phase.objective](model, chains, phase, mean):
            loss.backward()
            seen[-1] += float(loss.detach())
        optimizer.step()
        optimizer.zero_grad()
    assert seen[-1] < 0.75 * seen[0]


def test_history_noise_has_the_level_that_the_model_is_told() -> None:
    torch.manual_seed(0)
    history = torch.zeros(400, 4, 16, 6, 10)
    history[:, 2:] = 3.0
    noisy, sigma = noisy_history(history, 0.5)
    assert not noisy[:, :2].any()  # before the scene there is nothing to be noisy
    assert 0.3 < float((sigma == 0).float().mean()) < 0.5
    assert float(sigma.max()) <= 0.5
    torch.testing.assert_close(noisy[:, 2:].std((1, 2, 3, 4)), sigma, atol=0.05, rtol=0)
    torch.testing.assert_close(noisy[:, 2:].mean((1, 2, 3, 4)), 3 * (1 - sigma), atol=0.05, rtol=0)


def test_times_cover_both_ends() -> None:
    torch.manual_seed(0)
    t = sample_t(4000)
    assert 0 <= float(t.min()) < 0.02
    assert 0.98 < float(t.max()) <= 1
    assert float(((t > 0.25) & (t < 0.75)).float().mean()) > 0.6


def test_the_heros_column_weighs_more_and_the_mean_stays_one() -> None:
    mask = hero_mask(tiny.DIT, 3.0)
    assert float(mask.mean()) == pytest.approx(1)
    middle = tiny.DIT.latent_width // 2
    assert float(mask[4, middle] / mask[4, 0]) == pytest.approx(3)
