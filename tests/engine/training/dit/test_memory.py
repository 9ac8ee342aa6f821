"""ψ through a batch of chains is ψ as a session keeps it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from engine.model.conditions import Conditions
from engine.model.wander.transformer import WanderDiT
from engine.training.data.chains import Chains
from engine.training.dit.memory import KEPT, RunningMemory
from tests.rigs.engine import tiny
from tests.rigs.engine.training_rig import some_chains

ROW = 1


def session(model: WanderDiT, chains: Chains, prompt: Tensor, segments: list[Tensor]) -> Tensor:
    """What a session holds under a prompt after these segments of one chain, if it was there from the
    start."""
    text, _ = model.text_slots(prompt)
    on = torch.ones(1) if segments else chains.number[ROW : ROW + 1]
    psi = model.initial_memory(text, model.image_tokens(chains.anchor[ROW : ROW + 1], on))
    for segment in segments:
        psi = model.squeeze(psi, model.memorize(segment))
    return psi


def given(memory: RunningMemory, chains: Chains, prompt: Tensor) -> Conditions:
    return memory.conditions(
        prompt,
        history=chains.history,
        sigma=torch.zeros_like(chains.number),
        actions=chains.actions[:, 0],
        index=chains.number,
    )


def in_mid_scene(segments: int, prefix: int) -> Chains:
    """Chains whose scene began before their prefix."""
    chains = some_chains(3, segments, prefix=prefix)
    first = chains.prompts[:, :1].expand_as(chains.prompts).clone()
    return replace(
        chains, number=torch.full((3,), 9.0), has_past=torch.ones_like(chains.has_past), prompts=first
    )


def segments_of(chains: Chains, count: int) -> list[Tensor]:
    """The prefix of the row, and so many of its clips."""
    past, own = chains.past[ROW], chains.targets[ROW, :count]
    return [s[None] for s in (*past, *own)]


@torch.no_grad()
def test_updates_one_by_one_are_a_sessions() -> None:
    model, chains = tiny.dit(), in_mid_scene(3, 2)
    memory = RunningMemory(model, chains, 8)
    for k in range(3):
        psi = given(memory, chains, chains.prompts[:, k]).psi[ROW : ROW + 1]
        torch.testing.assert_close(
            psi, session(model, chains, chains.prompts[ROW : ROW + 1, 0], segments_of(chains, k))
        )
        memory.update(chains.targets[:, k])


@torch.no_grad()
def test_a_new_prompt_is_as_if_it_had_been_there_for_what_is_kept() -> None:
    model, chains = tiny.dit(), in_mid_scene(2, 2)
    memory = RunningMemory(model, chains, 8)
    given(memory, chains, chains.prompts[:, 0])
    memory.update(chains.targets[:, 0])
    new = chains.prompts[:, 0].flip(1)
    changed = torch.where(torch.arange(3)[:, None] == ROW, new, chains.prompts[:, 0])
    before = memory.psi
    psi = given(memory, chains, changed).psi
    torch.testing.assert_close(
        psi[ROW : ROW + 1], session(model, chains, new[ROW : ROW + 1], segments_of(chains, 1))
    )
    assert torch.equal(psi[0], before[0])  # the others keep theirs


@torch.no_grad()
def test_no_more_is_kept_than_a_session_keeps() -> None:
    model, chains = tiny.dit(), in_mid_scene(4, 7)
    memory = RunningMemory(model, chains, 2)
    for k in range(4):
        memory.update(chains.targets[:, k])
        assert len(memory.kept) == min(KEPT, 8 + k)


@torch.no_grad()
def test_a_scene_from_nothing_takes_its_first_latent_for_its_anchor() -> None:
    model = tiny.dit()
    chains = some_chains(3, 2, prefix=1, fresh=1.0)
    memory = RunningMemory(model, chains, 8)
    first = given(memory, chains, chains.prompts[:, 0])
    assert not first.context.any()
    assert not first.anchor.any()
    made = torch.randn_like(chains.targets[:, 0])
    memory.update(made)
    second = given(memory, chains, chains.prompts[:, 0])
    assert torch.equal(second.anchor, made[:, :1])
    text, _ = model.text_slots(chains.prompts[:, 0])
    start = model.initial_memory(text, model.image_tokens(made[:, :1], torch.ones(3)))
    torch.testing.assert_close(second.psi, model.squeeze(start, model.memorize(made)))


def test_detaching_ends_gradients() -> None:
    model, chains = tiny.dit().requires_grad_(True), in_mid_scene(2, 1)
    memory = RunningMemory(model, chains, 8)
    memory.update(chains.targets[:, 0])
    assert memory.psi.requires_grad
    memory.detach()
    assert not memory.psi.requires_grad
    assert not any(m.requires_grad for m, _ in memory.kept)
