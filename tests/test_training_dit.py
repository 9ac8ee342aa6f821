"""Teacher forcing: where gradients go, what a prompt says of a moment, and a figure that disturbs nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engine.model.dit import MemoryPackDiT
from engine.training.dit import Objective, chain_loss, hero_mask, prompt, sample_t
from engine.training.latents import Pool, Windows
from engine.training.teacher_forcing import sample_error
from tests import tiny

C = tiny.DIT
LENGTH = 24
CHAIN = Objective(batch=3, segments=2, prefix=2, fresh=0.0, forcing=1.0)


def a_pool(count: int = 6) -> Pool:
    g = torch.Generator().manual_seed(1)
    shape = (count, LENGTH, C.channels, C.latent_height, C.latent_width)
    attributes = torch.zeros(count, LENGTH, 5, dtype=torch.int64)
    attributes[:, 8:, 0] = 1
    actions = torch.randint(0, 4, (count, LENGTH), generator=g)
    return Pool(torch.randn(shape, generator=g).half(), attributes, actions)


def trainable() -> MemoryPackDiT:
    torch.manual_seed(0)
    return MemoryPackDiT(C)


def loss_of(model: MemoryPackDiT, objective: Objective, seed: int = 5) -> torch.Tensor:
    torch.manual_seed(seed)
    return chain_loss(model, a_pool(), objective)


@torch.no_grad()
def test_a_network_that_answers_nothing_starts_at_a_loss_of_about_one() -> None:
    model = trainable()
    model.proj_out.weight.zero_()
    objective = Objective(batch=64, fresh=1.0, context_noise=0.0, hero_weight=1.0)
    assert float(loss_of(model, objective)) == pytest.approx(1, abs=0.1)


def test_a_step_is_a_function_of_the_seed() -> None:
    model = trainable()
    assert torch.equal(loss_of(model, CHAIN), loss_of(model, CHAIN))
    assert not torch.equal(loss_of(model, CHAIN), loss_of(model, CHAIN, seed=6))


def test_gradients_reach_every_part_and_run_through_the_memory() -> None:
    model = trainable()
    for embedder in (model.jump_embedder, model.noise_embedder):  # silent at the start, so is what feeds it
        torch.nn.init.normal_(embedder.linear_2.weight, std=0.02)
    loss_of(model, replace(CHAIN, batch=12, fresh=0.2)).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_a_later_segment_teaches_the_memory_of_an_earlier_one() -> None:
    """With no prefix and fresh scenes, Memorize is used only between the chain's own segments."""
    model = trainable()
    objective = Objective(batch=3, segments=2, prefix=0, fresh=1.0)
    loss_of(model, objective).backward()
    assert model.memorize.queries.grad is not None
    assert float(model.memorize.queries.grad.abs().max()) > 0
    single = trainable()
    loss_of(single, replace(objective, segments=1)).backward()
    assert single.memorize.queries.grad is None


def test_own_estimates_enter_the_history_only_when_they_are_asked_for() -> None:
    model = trainable()
    teacher = loss_of(model, replace(CHAIN, forcing=0.0))
    assert not torch.equal(teacher, loss_of(model, CHAIN))


def test_a_prompt_says_what_changed_lately_in_every_slots_terms() -> None:
    torch.manual_seed(0)
    b = 64
    windows = Windows(
        torch.zeros(b, dtype=torch.int64), torch.full((b,), 8), torch.zeros(b, dtype=torch.int64)
    )
    parts = prompt(a_pool(), windows, torch.full((b,), 9), C).split(list(C.slots), -1)
    for part in parts:
        torch.testing.assert_close(part.sum(-1), torch.ones(b))
        assert float(part.min()) >= 0
    assert bool((parts[0].argmax(-1) == 2).all())  # field 0 became value 1 at frame 8: class 1 + 1
    said = (parts[1].argmax(-1) == 1).float().mean()  # long ago: now and then
    assert 0.35 < float(said) < 0.85


def test_times_cover_both_ends() -> None:
    torch.manual_seed(0)
    t = sample_t(4000)
    assert 0 <= float(t.min()) < 0.02
    assert float(t.max()) == pytest.approx(0.98)
    assert float(((t > 0.25) & (t < 0.75)).float().mean()) > 0.6


def test_the_heros_column_weighs_more_and_the_mean_stays_one() -> None:
    mask = hero_mask(C, 3.0)
    assert float(mask.mean()) == pytest.approx(1)
    middle = C.latent_width // 2
    assert float(mask[4, middle] / mask[4, 0]) == pytest.approx(3)


def test_the_figure_is_repeatable_and_leaves_the_random_state_alone() -> None:
    model, held_out = tiny.dit(), a_pool()
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first = sample_error(model, held_out, steps=2, count=4)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first == sample_error(model, held_out, steps=2, count=4)
    assert first[1] == pytest.approx(2, rel=0.3)  # repeating one normal latent for another
