"""The graft: SemanticPack on a backbone, and how little that changes before any training.

The table in docs/LOG.md that chose the key bias comes from these measurements (pytest -s prints them).
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from engine.model.config import ModelConfig
from engine.model.dit import EXTRA
from engine.model.framepack.transformer import FramePackDiT
from engine.model.presets import PRESETS
from export.framepack.checkpoint import tensors_of
from export.framepack.graft import COPIES, EMBED, FramePackGraft
from tests.rigs.models import framepack

DEFAULT = PRESETS["framepack-f1"].config.memory.key_bias
C = framepack.CONFIG


@pytest.fixture(scope="module")
def reference() -> Any:
    return framepack.theirs(C)


@pytest.fixture(scope="module")
def model(reference: Any) -> FramePackDiT:
    return framepack.ours(C, reference)


def test_every_added_tensor_is_made_and_the_same_again_for_the_same_seed() -> None:
    """In any order, since a continued conversion requests only the rest."""
    _, added = tensors_of(C)
    assert {n.split(".")[0] for n in added} == set(EXTRA) - {"action_embedder"}
    names = [n for n in added if n not in COPIES]
    graft, again, other = FramePackGraft(C, 3), FramePackGraft(C, 3), FramePackGraft(C, 4)
    first = {n: graft.tensor(n, added[n]) for n in names}
    second = {n: again.tensor(n, added[n]) for n in reversed(names)}
    for name in names:
        assert first[name].shape == added[name], name
        assert torch.equal(first[name], second[name]), name
    assert not torch.equal(
        first["memorize.queries"], other.tensor("memorize.queries", added["memorize.queries"])
    )


def test_memorize_starts_with_the_backbones_kernel(model: FramePackDiT) -> None:
    assert set(COPIES.values()) == {f"{EMBED}.weight", f"{EMBED}.bias"}
    for ours, theirs in COPIES.items():
        assert torch.equal(model.get_parameter(ours), model.get_parameter(theirs))


@torch.no_grad()
@pytest.mark.parametrize("name", ["d", "sigma", "context"])
def test_added_conditions_have_no_effect_at_first(model: FramePackDiT, name: str) -> None:
    """The length of the jump, the noise level of the history, and whether there is a scene yet."""
    given = framepack.inputs(C, [5], psi=True)
    other = {**given, name: 1 - given[name]}
    assert torch.equal(framepack.our_velocity(model, given), framepack.our_velocity(model, other))


@torch.no_grad()
def test_masked_psi_has_no_effect(model: FramePackDiT) -> None:
    given = framepack.inputs(C, [5])
    other = {**given, "psi": 100 * given["psi"].flip(1)}
    assert torch.equal(framepack.our_velocity(model, given), framepack.our_velocity(model, other))


class Measured(NamedTuple):
    largest: float  # absolute difference in the velocity, over ψ random, ψ₀ and ψ₁
    rms: float
    bias: float  # smallest gradient of a block's key bias
    squeeze: float  # root mean square of the gradient of Squeeze's values
    memorize: float


def measure(model: FramePackDiT, c: ModelConfig, key_bias: float, texts: list[int]) -> Measured:
    """The grafted model compared with itself with masked ψ, which is the backbone. The gradients are those of
    the mean squared error to a random target of unit size, as at the start of training."""
    model = copy.deepcopy(model)
    assert model.psi_bias is not None
    model.psi_bias.fill_(key_bias)
    given = framepack.inputs(c, texts, psi=True)
    blind = {**given, "psi_mask": torch.zeros_like(given["psi_mask"])}
    image = model.image_projection(given["image"])
    with torch.no_grad():
        alone = framepack.our_velocity(model, blind)
        first = model.initial_memory(given["text"], image, given["text_mask"])
        second = model.squeeze(first, model.memorize(given["x"]))
        away = torch.stack(
            [
                framepack.our_velocity(model, {**given, "psi": psi}) - alone
                for psi in (given["psi"], first, second)
            ]
        )
    for part in (model.memorize, model.squeeze):
        part.requires_grad_(True)
    model.psi_bias.requires_grad_(True)
    psi = model.squeeze(first, model.memorize(given["x"]))
    velocity = framepack.our_velocity(model, {**given, "psi": psi})
    target = torch.randn(velocity.shape, generator=torch.Generator().manual_seed(3)) - given["x"]
    (velocity - target).pow(2).mean().backward()

    def size(parameter: Tensor) -> float:
        assert parameter.grad is not None
        return float(parameter.grad.pow(2).mean().sqrt())

    assert model.psi_bias.grad is not None
    return Measured(
        float(away.abs().max()),
        float(away.pow(2).mean().sqrt()),
        float(model.psi_bias.grad.abs().min()),
        size(model.squeeze.cross.attn.to_v.weight),
        size(model.memorize.compact.attn.to_v.weight),
    )


BIASES = [-5.0, -7.5, -10.0, -15.0, -20.0]


@pytest.mark.parametrize("key_bias", BIASES)
def test_the_difference_falls_with_the_key_bias_as_its_exponential(
    model: FramePackDiT, key_bias: float
) -> None:
    """Down to the rounding error of fp32."""
    m = measure(model, C, key_bias, [8])
    print(f"\n{key_bias:6.1f}  " + "  ".join(f"{n} {v:.1e}" for n, v in m._asdict().items()))
    share = float(torch.tensor(key_bias).exp())
    assert m.rms < 0.1 * share + 1e-6
    assert m.largest < share + 5e-6
    assert m.squeeze == pytest.approx(1.1e-3 * share, rel=0.5)


def test_at_the_default_little_changes_and_gradients_pass(model: FramePackDiT) -> None:
    """The change is a hundredth of the rounding error of bf16, in which the checkpoint is stored and runs.
    All gradients are large enough for Adam, whose epsilon is 1e-8."""
    assert DEFAULT is not None
    assert C.memory.key_bias == DEFAULT
    m = measure(model, C, DEFAULT, [8])
    assert m.largest < 5e-4
    assert min(m.bias, m.squeeze, m.memorize) > 1e-7
    given = framepack.inputs(C, [8])
    half = copy.deepcopy(model).bfloat16()
    half.positions = model.positions
    exact = ("t", "d", "sigma", "index", "context")
    rounded = {n: x if n in exact else x.bfloat16() for n, x in given.items()}
    with torch.no_grad():
        lost = framepack.our_velocity(half, rounded).float() - framepack.our_velocity(model, given)
    assert 100 * m.rms < float(lost.pow(2).mean().sqrt()) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("key_bias", BIASES)
def test_the_difference_is_the_same_in_full_size_proportions(key_bias: float) -> None:
    """A quarter of the tokens of a 480 x 832 picture, in a segment of 9, with 64 + 182 tokens in ψ."""
    memory = replace(C.memory, text_tokens=64, image_tokens=(13, 14))
    c = framepack.at_size(replace(C, memory=memory), 30, 52, segment=9)
    m = measure(framepack.ours(c, framepack.theirs(c)), c, key_bias, [64])
    print(f"\n{key_bias:6.1f}  " + "  ".join(f"{n} {v:.1e}" for n, v in m._asdict().items()))
    assert m.largest < float(torch.tensor(key_bias).exp()) + 5e-6
