"""Kernels, fp8 and placement, as far as a CPU can show them: what is chosen, how much it costs in accuracy,
and what a machine that lacks something is told."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engine.backends.helios import second_device
from engine.errors import InvalidInput, Unavailable
from engine.model.blocks import attend
from engine.model.helios import kernels
from engine.model.helios.attention import WanAttention
from engine.model.helios.kernels import attention_kernel, use_attention
from engine.model.helios.quantisation import Fp8Linear, check_device, quantise
from engine.model.helios.transformer import HeliosTransformer
from tests.rigs.models.helios import SMALL, inputs, ours_on

CPU, CUDA = (torch.device(name) for name in ("cpu", "cuda"))  # only their names matter
WIDE = replace(SMALL, heads=2, head_dim=16, rope_axes=(6, 4, 6), feed_forward=48, layers=7, text_dim=16)


def model_of() -> HeliosTransformer:
    torch.manual_seed(0)
    model = HeliosTransformer(WIDE).eval().requires_grad_(False)
    for p in model.parameters():
        p.copy_(torch.randn_like(p) / max(1, p.shape[-1]) ** 0.5)
    return model


def test_fp8_replaces_the_linears_of_the_middle_block_and_costs_little() -> None:
    model = model_of()
    given = inputs(WIDE, 2, 1)
    with torch.no_grad():
        exact = ours_on(model, given)
        assert quantise(model, WIDE.layers) == 10  # seven blocks, three kept at either end
        rounded = ours_on(model, given)
    assert {n.split(".")[1] for n, m in model.named_modules() if isinstance(m, Fp8Linear)} == {"3"}
    error = float((rounded - exact).norm() / exact.norm())
    assert 0 < error < 0.03
    middle = model.get_submodule("blocks.3.attn1.to_q")
    assert middle.get_buffer("weight").dtype == torch.float8_e4m3fn


def test_scales_are_per_token_and_per_channel() -> None:
    """So a token or a channel a thousand times larger than the others leaves their accuracy as it is."""
    torch.manual_seed(0)
    linear = nn.Linear(32, 48)
    linear.weight.data[0] *= 1000
    x = torch.randn(3, 5, 32)
    x[0, 0] *= 1000
    out, wanted = Fp8Linear(linear)(x), linear(x)
    assert out.shape == wanted.shape
    small = (out - wanted)[1:, :, 1:].norm() / wanted[1:, :, 1:].norm()
    assert small < 0.05


def test_a_row_of_zeros_stays_zero() -> None:
    linear = nn.Linear(32, 48, bias=False)
    assert not Fp8Linear(linear)(torch.zeros(2, 32)).any()


@pytest.mark.parametrize("name", ["flash3", "sage"])
def test_a_kernel_is_used_in_every_attention(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins for the libraries, which keep to their signatures."""
    calls: list[str] = []

    def flash_attn_func(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, None]:
        calls.append("flash3")
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return out.transpose(1, 2), None

    def sageattn(q: Tensor, k: Tensor, v: Tensor, *, tensor_layout: str, is_causal: bool) -> Tensor:
        assert (tensor_layout, is_causal) == ("HND", False)
        calls.append("sage")
        return torch.nn.functional.scaled_dot_product_attention(q, k, v)

    for module, function in (("flash_attn_interface", flash_attn_func), ("sageattention", sageattn)):
        monkeypatch.setitem(sys.modules, module, SimpleNamespace(**{function.__name__: function}))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    model, given = model_of(), inputs(WIDE, 2, 0)
    with torch.no_grad():
        wanted = ours_on(model, given)
        use_attention(model, attention_kernel(name, CUDA))
        found = ours_on(model, given)
    assert calls == [name] * 2 * WIDE.layers
    torch.testing.assert_close(found, wanted)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert attention_kernel("sdpa", CPU) is attend
    with pytest.raises(InvalidInput, match="'xformers' is not one of sdpa, flash3, sage"):
        attention_kernel("xformers", CPU)
    with pytest.raises(Unavailable, match="sage needs a CUDA device, here is cpu"):
        attention_kernel("sage", CPU)
    capability: Any = (8, 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    with pytest.raises(Unavailable, match=r"flash3 needs compute capability 9\.0 .*device has 8\.0"):
        attention_kernel("flash3", CUDA)
    with pytest.raises(Unavailable, match=r"fp8 needs compute capability 8\.9, this device has 8\.0"):
        check_device(CUDA)
    monkeypatch.setitem(kernels.LIBRARIES, "sage", "no_such_library")
    with pytest.raises(Unavailable, match=r"sage is not installed \(pip install sageattention"):
        attention_kernel("sage", CUDA)


def test_the_companions_device_must_be_there() -> None:
    assert second_device("", CPU) == CPU
    assert second_device("cpu", CUDA) == CPU
    with pytest.raises(InvalidInput, match="companions_on is 'banana', must be a device such as cuda:1"):
        second_device("banana", CPU)
    with pytest.raises(Unavailable, match=r"companions_on is cuda:7, this machine has \d+ CUDA"):
        second_device("cuda:7", CPU)


def test_every_attention_of_the_transformer_can_be_exchanged() -> None:
    count = sum(isinstance(m, WanAttention) for m in model_of().modules())
    assert count == 2 * WIDE.layers
