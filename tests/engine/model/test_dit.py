"""The DiT: shapes, what influences the answer and what must not, and the layout of its output."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from engine.model.conditions import denoise_inputs
from engine.model.wander.transformer import WanderDiT
from tests.rigs.engine import tiny


@pytest.fixture(scope="module")
def model() -> WanderDiT:
    """Gates open and answers of unit size, as after training."""
    model = tiny.dit()
    model.proj_out.weight.mul_(10)
    return model


def changed(x: Tensor) -> Tensor:
    """Another value; not a constant more, which the normalisation of tokens would take away."""
    if x.dtype == torch.int64:
        return x.roll(1, 0)
    return x.flip(-1) if x.ndim > 1 else x + 0.1


@torch.no_grad()
def test_the_answer_has_the_segments_shape_and_is_finite(model: WanderDiT) -> None:
    given = tiny.inputs(batch=3)
    velocity = tiny.denoise(model, given)
    assert velocity.shape == given["x"].shape
    assert bool(velocity.isfinite().all())


@torch.no_grad()
@pytest.mark.parametrize(
    "name", ["x", "t", "psi", "text", "pooled", "image", "history", "anchor", "context", "actions", "index"]
)
def test_every_input_has_a_say(model: WanderDiT, name: str) -> None:
    given = tiny.inputs()
    given["actions"] = torch.tensor([[1, 1], [2, 2]])
    other = {**given, name: 1 - given[name] if name == "context" else changed(given[name])}
    difference = (tiny.denoise(model, given) - tiny.denoise(model, other)).abs().flatten(1).amax(1)
    assert bool((difference > 1e-4).all()), difference


@torch.no_grad()
@pytest.mark.parametrize("name", ["d", "sigma"])
def test_jump_length_and_noise_level_start_silent(name: str) -> None:
    """They are trained later; until then a checkpoint answers as it did without them."""
    model, given = tiny.dit(), tiny.inputs()
    assert torch.equal(tiny.denoise(model, given), tiny.denoise(model, {**given, name: given[name] + 0.3}))


@torch.no_grad()
def test_sessions_of_a_batch_do_not_hear_each_other(model: WanderDiT) -> None:
    """Each at its own t and segment number: what continuous batching rests on."""
    given = tiny.inputs(batch=3)
    together = tiny.denoise(model, given)
    for b in range(3):
        alone = tiny.denoise(model, {name: value[b : b + 1] for name, value in given.items()})
        torch.testing.assert_close(alone[0], together[b], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_every_part_of_the_memory_is_heard(model: WanderDiT) -> None:
    given = tiny.inputs(batch=1)
    plain = tiny.denoise(model, given)
    for token in range(tiny.DIT.memory.tokens):
        psi = given["psi"].clone()
        psi[:, token] += 1
        assert not torch.equal(tiny.denoise(model, {**given, "psi": psi}), plain)


@torch.no_grad()
def test_output_channels_stand_as_in_the_public_checkpoints() -> None:
    """proj_out's rows are (channel, row, column) of a 2 x 2 patch."""
    model = tiny.dit(replace(tiny.DIT, carry=False))
    model.proj_out.weight.zero_()
    model.proj_out.bias.copy_(torch.arange(64.0))
    out = tiny.denoise(model, tiny.inputs(batch=1), plain=True)[0, 0]
    for channel in (0, 7, 15):
        patch = 4 * channel + torch.tensor([[0.0, 1.0], [2.0, 3.0]])
        assert torch.equal(out[channel], patch.repeat(3, 5))


@torch.no_grad()
def test_the_base_is_the_last_latent_and_nothing_without_context() -> None:
    given = tiny.inputs()
    half = denoise_inputs({**given, "context": torch.tensor([1.0, 0.0])})
    base = tiny.dit().base(half.given)
    assert torch.equal(base[0], given["history"][0, -1:])
    assert not base[1].any()


@torch.no_grad()
def test_without_preconditioning_the_network_answers_the_velocity_itself() -> None:
    """The public checkpoints' path: one input per channel, no base, no hints."""
    model = tiny.dit(replace(tiny.DIT, prior_variance=0.0, carry=False, camera=None))
    assert model.x_embedder.proj.weight.shape[1] == tiny.DIT.channels
    given = tiny.inputs()
    assert torch.equal(tiny.denoise(model, given), tiny.denoise(model, given, plain=True))


def test_blocks_have_the_names_of_the_public_checkpoints() -> None:
    names = set(tiny.dit().state_dict())
    for name in (
        "x_embedder.proj.weight",
        "clean_x_embedder.proj_4x.weight",
        "transformer_blocks.0.norm1_context.linear.weight",
        "transformer_blocks.0.attn.add_q_proj.weight",
        "transformer_blocks.0.attn.norm_added_k.weight",
        "transformer_blocks.0.attn.to_out.0.bias",
        "transformer_blocks.0.ff_context.net.0.proj.weight",
        "transformer_blocks.0.ff.net.2.weight",
        "single_transformer_blocks.0.proj_mlp.weight",
        "single_transformer_blocks.0.proj_out.weight",
        "norm_out.linear.weight",
        "proj_out.weight",
    ):
        assert name in names
