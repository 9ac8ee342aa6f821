"""Helios' linears in fp8. Which may be: the linears of attention and feed-forward, but not those of
the first and last three blocks.

The public recipe for Helios-Base keeps the same blocks (ModelOpt, SGLang PR 23223), and with them the
embeddings, the conditions and the last layer. ψ's memory path stays too: its errors would recur.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from engine.errors import Unavailable

KEPT = 3  # blocks at either end
LARGEST, SMALLEST = 448.0, 1e-12  # value of E4M3, and of a row's largest
LINEAR = re.compile(r"(?:^|\.)blocks\.(\d+)\.(?:attn1|attn2|ffn)\.")


def chosen(name: str, layers: int) -> bool:
    """Whether the parameter `name` of a network of that many blocks may be quantised. Biases stay."""
    found = LINEAR.search(name)
    if found is None or not name.endswith(".weight") or ".norm" in name:
        return False
    return KEPT <= int(found[1]) < layers - KEPT


class Fp8Linear(nn.Module):
    """A linear in E4M3 with fp32 scales: one per output channel for the weight, one per token for the input,
    computed on the fly. torch alone; on GPUs from compute capability 8.9."""

    weight: Tensor
    scale: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = quantised(linear.weight.detach())
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale.T.contiguous())
        self.bias = linear.bias
        self.kind = linear.weight.dtype

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) → (..., out)."""
        rows, scale = quantised(x.reshape(-1, x.shape[-1]))
        out = torch._scaled_mm(
            rows, self.weight.T, scale_a=scale, scale_b=self.scale, bias=self.bias, out_dtype=self.kind
        )
        return out.reshape(*x.shape[:-1], -1)


def quantised(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(N, C) → the same in fp8, and the scale of each row (N, 1) fp32."""
    wide = rows.float()
    scale = wide.abs().amax(1, keepdim=True).clamp(min=SMALLEST) / LARGEST
    return (wide / scale).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn), scale


def quantise(model: nn.Module, layers: int) -> int:
    """Replaces the chosen linears of a bf16 model in place, one after the other; returns their number.

    Raises Unavailable on a GPU without fp8."""
    linears = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    found = [(name, linear) for name, linear in linears if chosen(f"{name}.weight", layers)]
    for name, linear in found:
        check_device(linear.weight.device)
        place, _, leaf = name.rpartition(".")
        parent = model.get_submodule(place)
        if isinstance(parent, nn.ModuleList):
            parent[int(leaf)] = Fp8Linear(linear)
        else:
            setattr(parent, leaf, Fp8Linear(linear))
    return len(found)


def check_device(device: torch.device) -> None:
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 9):
        major, minor = torch.cuda.get_device_capability(device)
        raise Unavailable(
            f"linears: fp8 needs compute capability 8.9, this device has {major}.{minor}; choose bf16",
            field="linears",
        )
