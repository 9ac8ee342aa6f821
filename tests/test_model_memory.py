"""SemanticPack: constant size, bounded values, prompt-free memories that can be squeezed again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.model.dit import MemoryPackDiT
from tests import tiny

C = tiny.DIT
M, D = C.memory.tokens, C.dim


@pytest.fixture(scope="module")
def model() -> MemoryPackDiT:
    return tiny.dit()


def segments(count: int, batch: int = 1) -> list[Tensor]:
    g = torch.Generator().manual_seed(1)
    shape = (batch, C.segment, C.channels, C.latent_height, C.latent_width)
    return [torch.randn(shape, generator=g) for _ in range(count)]


def first_psi(model: MemoryPackDiT, prompt: int) -> Tensor:
    p = torch.softmax(torch.randn(1, sum(C.slots), generator=torch.Generator().manual_seed(prompt)), -1)
    text, _ = model.text_slots(p)
    anchor = segments(1)[0][:, :1]
    return model.initial_memory(text, model.image_tokens(anchor, torch.ones(1)))


@torch.no_grad()
def test_the_memory_has_the_same_size_and_scale_after_a_thousand_updates(model: MemoryPackDiT) -> None:
    psi = first_psi(model, 0)
    assert psi.shape == (1, M, D)
    memories = [model.memorize(x) for x in segments(10)]
    for n in range(1000):
        psi = model.squeeze(psi, memories[n % 10])
    assert psi.shape == (1, M, D)
    torch.testing.assert_close(psi.pow(2).mean(-1), torch.ones(1, M), atol=0.01, rtol=0)


@torch.no_grad()
def test_reconditioning_is_the_chain_as_if_the_new_prompt_had_been_there(model: MemoryPackDiT) -> None:
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
def test_the_prompt_is_still_in_the_memory_after_a_few_segments(model: MemoryPackDiT) -> None:
    a, b = first_psi(model, 0), first_psi(model, 1)
    for x in segments(3):
        a, b = (model.squeeze(psi, model.memorize(x)) for psi in (a, b))
    assert float((a - b).abs().max()) > 1e-5


@torch.no_grad()
def test_every_place_of_a_segment_is_memorized(model: MemoryPackDiT) -> None:
    x = segments(1)[0]
    plain = model.memorize(x)
    for frame in range(C.segment):
        for y in range(0, C.latent_height, 2):
            for column in range(0, C.latent_width, 2):
                other = x.clone()
                other[:, frame, :, y, column] += 3
                assert not torch.equal(model.memorize(other), plain)


@torch.no_grad()
def test_windows_are_read_alike_in_every_session_of_a_batch(model: MemoryPackDiT) -> None:
    x = segments(1, batch=3)[0]
    together = model.memorize(x)
    for b in range(3):
        torch.testing.assert_close(model.memorize(x[b : b + 1])[0], together[b], atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_scene_without_an_anchor_has_the_same_image_tokens_whatever_lies_there(
    model: MemoryPackDiT,
) -> None:
    anchor = segments(1, batch=2)[0][:, :1]
    tokens = model.image_tokens(anchor, torch.tensor([0.0, 0.0]))
    assert torch.equal(tokens[0], tokens[1])
    seen = model.image_tokens(anchor, torch.tensor([1.0, 1.0]))
    assert not torch.equal(seen[0], seen[1])
    assert seen.shape == tokens.shape == (2, M - C.memory.text_tokens, D)
