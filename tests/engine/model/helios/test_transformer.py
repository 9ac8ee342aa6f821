"""Helios' transformer against diffusers' on small random weights, and what ψ's gate promises."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engine.companions.libraries import library
from engine.errors import InvalidInput
from engine.model.config import MemoryConfig
from engine.model.helios.config import HeliosConfig
from engine.model.helios.transformer import EXTRA, HeliosTransformer
from tests.rigs.models.helios import SMALL, at, inputs, make_pair, ours_on, theirs_on

MEMORY = MemoryConfig(text_tokens=7, image_tokens=(2, 3), window=(3, 4, 4))
WITH_MEMORY = replace(SMALL, memory=MEMORY)


def test_the_checkpoint_has_exactly_these_tensors() -> None:
    """1101 of them, 14.3 billion numbers: what FastVideo loads strictly from the public files."""
    with torch.device("meta"):
        ours, theirs = HeliosTransformer(HeliosConfig()), library("diffusers").HeliosTransformer3DModel()
    shapes = {n: p.shape for n, p in ours.named_parameters()}
    assert shapes == {n: p.shape for n, p in theirs.named_parameters()}
    assert len(shapes) == 1101
    assert sum(s.numel() for s in shapes.values()) == 14_312_427_584


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        at(64, 64),
        at(192, 320, heads=3, layers=3),
        at(128, 192, history=(5, 3, 1)),  # neither fits its kernel: padded at the far end
        at(64, 128, segment=9),
    ],
    ids=["small", "square", "larger", "padded", "nine"],
)
def test_the_answer_is_diffusers(config: HeliosConfig, batch: int, stage: int) -> None:
    ours, theirs = make_pair(config)
    given = inputs(config, batch, stage)
    with torch.no_grad():
        assert (ours_on(ours, given) - theirs_on(theirs, config, given)).abs().max() <= 1e-5


def test_a_row_of_a_batch_does_not_depend_on_its_company() -> None:
    ours, _ = make_pair(SMALL)
    given = inputs(SMALL, 3, 1)
    with torch.no_grad():
        alone = ours_on(ours, {n: v[1:2] for n, v in given.items()})
        assert (ours_on(ours, given)[1:2] - alone).abs().max() <= 1e-5


def test_a_gate_of_zero_leaves_the_checkpoint_bit_for_bit() -> None:
    ours, _ = make_pair(WITH_MEMORY)
    assert ours.semantic_pack is not None
    ours.semantic_pack.gate.zero_()
    given = inputs(SMALL, 2, 2)
    psi = torch.randn(2, MEMORY.tokens, SMALL.dim)
    with torch.no_grad():
        assert torch.equal(ours_on(ours, given, psi=psi), ours_on(ours, given))


def test_a_new_network_starts_with_its_gates_at_zero() -> None:
    pack = HeliosTransformer(WITH_MEMORY).semantic_pack
    assert pack is not None
    assert not pack.gate.any()


def test_an_open_gate_lets_the_noisy_tokens_hear_psi() -> None:
    ours, _ = make_pair(WITH_MEMORY)
    assert ours.semantic_pack is not None
    ours.semantic_pack.gate.fill_(0.5)
    given = inputs(SMALL, 1, 2)
    first, second = torch.randn(2, 1, MEMORY.tokens, SMALL.dim)
    with torch.no_grad():
        assert (ours_on(ours, given, psi=first) - ours_on(ours, given, psi=second)).abs().max() > 1e-3


def test_gradients_reach_closed_gates() -> None:
    """A gate at zero must be able to open; what lies behind it follows once it has."""
    ours, _ = make_pair(WITH_MEMORY)
    assert ours.semantic_pack is not None
    gate = ours.semantic_pack.gate.zero_().requires_grad_(True)
    ours_on(
        ours, inputs(SMALL, 1, 0), psi=torch.randn(1, MEMORY.tokens, SMALL.dim)
    ).square().mean().backward()
    assert gate.grad is not None
    assert (gate.grad != 0).all()


def test_what_is_added_to_the_checkpoint_has_names_of_its_own() -> None:
    with torch.device("meta"):
        names = {n for n, _ in HeliosTransformer(WITH_MEMORY).named_parameters()}
        plain = {n for n, _ in HeliosTransformer(SMALL).named_parameters()}
    assert {n for n in names if n.split(".")[0] not in EXTRA} == plain


def test_latents_of_no_stage_are_refused() -> None:
    ours, _ = make_pair(SMALL)
    given = inputs(SMALL, 1, 2)
    with pytest.raises(InvalidInput, match="must be 3 of one of"):
        ours_on(ours, {**given, "x": given["x"][..., :10, :]})


@pytest.mark.parametrize(("height", "width"), [(480, 832), (384, 100), (0, 640)])
def test_sides_that_are_no_multiple_of_64_pixels_are_refused(height: int, width: int) -> None:
    """480 x 832 crashes in the public pipeline, in the middle of the first segment."""
    with pytest.raises(InvalidInput, match="multiples of 64 pixels"):
        at(height, width)
