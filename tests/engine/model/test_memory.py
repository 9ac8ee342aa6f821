"""SemanticPack: constant size, bounded values, prompt-free memories that can be squeezed again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from engine.model.wander.transformer import WanderDiT
from tests.rigs.engine import tiny

C = tiny.DIT
M, D = C.memory.tokens, C.dim


@pytest.fixture(scope="module")
def model() -> WanderDiT:
    return tiny.dit()


def segments(count: int, batch: int = 1) -> list[Tensor]:
    g = torch.Generator().manual_seed(1)
    shape = (batch, C.segment, C.channels, C.latent_height, C.latent_width)
    return [torch.randn(shape, generator=g) for _ in range(count)]


def first_psi(model: WanderDiT, prompt: int) -> Tensor:
    p = torch.softmax(torch.randn(1, sum(C.slots), generator=torch.Generator().manual_seed(prompt)), -1)
    text, _ = model.text_slots(p)
    anchor = segments(1)[0][:, :1]
    return model.initial_memory(text, model.image_tokens(anchor, torch.ones(1)))


@torch.no_grad()
def test_the_memory_has_the_same_size_and_scale_after_a_thousand_updates(model: WanderDiT) -> None:
    psi = first_psi(model, 0)
    assert psi.shape == (1, M, D)
    memories = [model.memorize(x) for x in segments(10)]
    for n in range(1000):
        psi = model.squeeze(psi, memories[n % 10])
    assert psi.shape == (1, M, D)
    torch.testing.assert_close(psi.pow(2).mean(-1), torch.ones(1, M), atol=0.01, rtol=0)


@torch.no_grad()
def test_reconditioning_is_the_chain_as_if_the_new_prompt_had_been_there(model: WanderDiT) -> None:
    """Memories don't depend on the prompt, so those that were kept serve the new one."""
    kept = [model.memorize(x) for x in segments(5)]
    old, new = first_psi(model, 0), first_psi(model, 1)
    chains = []
    for psi in (old, new):
        for x in segments(5):
            psi = model.squeeze(psi, model.memorize(x))
        chains.append(psi)
    again = new
    for memory in kept:
        again = model.squeeze(again, memory)
    assert torch.equal(again, chains[1])
    assert not torch.equal(chains[0], chains[1])


@torch.no_grad()
def test_the_prompt_is_still_in_the_memory_after_a_few_segments(model: WanderDiT) -> None:
    a, b = first_psi(model, 0), first_psi(model, 1)
    for x in segments(3):
        a, b = (model.squeeze(psi, model.memorize(x)) for psi in (a, b))
    assert float((a - b).abs().max()) > 1e-5


@torch.no_grad()
def test_every_place_of_a_segment_is_memorized(model: WanderDiT) -> None:
    x = segments(1)[0]
    plain = model.memorize(x)
    for frame in range(C.segment):
        for y in range(0, C.latent_height, 2):
            for column in range(0, C.latent_width, 2):
                other = x.clone()
                other[:, frame, :, y, column] += 3
                assert not torch.equal(model.memorize(other), plain)


@torch.no_grad()
def test_windows_are_read_alike_in_every_session_of_a_batch(model: WanderDiT) -> None:
    x = segments(1, batch=3)[0]
    together = model.memorize(x)
    for b in range(3):
        torch.testing.assert_close(model.memorize(x[b : b + 1])[0], together[b], atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_scene_without_an_anchor_has_the_same_image_tokens_whatever_lies_there(
    model: WanderDiT,
) -> None:
    anchor = segments(1, batch=2)[0][:, :1]
    tokens = model.image_tokens(anchor, torch.tensor([0.0, 0.0]))
    assert torch.equal(tokens[0], tokens[1])
    seen = model.image_tokens(anchor, torch.tensor([1.0, 1.0]))
    assert not torch.equal(seen[0], seen[1])
    assert seen.shape == tokens.shape == (2, M - C.memory.text_tokens, D)


def variant(**memory: Any) -> WanderDiT:
    return tiny.dit(replace(C, memory=replace(C.memory, **memory)))


@torch.no_grad()
@pytest.mark.parametrize("structure", ["A", "B", "C"])
def test_every_structure_keeps_the_size_and_hears_both_sides(structure: str) -> None:
    model = variant(structure=structure)
    psi, memory = first_psi(model, 0), model.memorize(segments(1)[0])
    plain = model.squeeze(psi, memory)
    assert plain.shape == (1, M, D)
    assert not torch.equal(model.squeeze(psi.flip(-1), memory), plain)
    assert not torch.equal(model.squeeze(psi, memory.flip(-1)), plain)
    for _ in range(200):
        psi = model.squeeze(psi, memory)
    torch.testing.assert_close(psi.pow(2).mean(-1), torch.ones(1, M), atol=0.02, rtol=0)


@torch.no_grad()
def test_structures_differ_in_who_asks() -> None:
    """A: one query per token of the segment's memory, so its order counts; B: per token of psi."""
    a, b = variant(structure="A"), variant(structure="B")
    psi, memory = first_psi(a, 0), a.memorize(segments(1)[0])
    torch.testing.assert_close(a.squeeze(psi.flip(1), memory), a.squeeze(psi, memory), atol=1e-5, rtol=0)
    torch.testing.assert_close(b.squeeze(psi, memory.flip(1)), b.squeeze(psi, memory), atol=1e-5, rtol=0)
    assert not torch.allclose(a.squeeze(psi, memory.flip(1)), a.squeeze(psi, memory), atol=1e-2)
    assert not torch.allclose(b.squeeze(psi.flip(1), memory), b.squeeze(psi, memory), atol=1e-2)


@torch.no_grad()
def test_zero_psi_starts_empty_and_still_remembers() -> None:
    model = variant(start="zero")
    psi = first_psi(model, 0)
    assert not psi.any()
    once = [model.squeeze(psi, model.memorize(x)) for x in segments(2)]
    assert not torch.equal(once[0], once[1])


@torch.no_grad()
@pytest.mark.parametrize("structure", ["A", "C"])
def test_masked_tokens_of_psi_have_no_say(structure: str) -> None:
    """Padding of a prompt lies in psi_0; what it holds must not matter."""
    model = variant(structure=structure)
    psi, memory = first_psi(model, 0), model.memorize(segments(1)[0])
    mask = torch.ones(1, M)
    mask[:, 3:5] = 0
    other = psi.clone()
    other[:, 3:5] += 5
    pair = [model.squeeze(p, memory, mask) for p in (psi, other)]
    kept = slice(None) if structure == "A" else mask[0].bool()
    torch.testing.assert_close(pair[0][:, kept], pair[1][:, kept], atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_segment_costs_the_same_whatever_its_number() -> None:
    """Counted operations, not seconds: hour three is as cheap as second three."""
    model, given = tiny.dit(), tiny.inputs(batch=1)
    counts = []
    for index in (0.0, 1.0, 1e3, 1e6):
        with FlopCounterMode(display=False) as counter:
            tiny.denoise(model, {**given, "index": torch.tensor([index])})
            psi = model.squeeze(given["psi"], model.memorize(given["x"]))
        counts.append(counter.get_total_flops())
        assert psi.shape == given["psi"].shape
    assert len(set(counts)) == 1
    assert counts[0] > 1e6
