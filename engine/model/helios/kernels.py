"""Attention kernels to choose from: PyTorch's own, FlashAttention 3 and SageAttention.

The last two are libraries of their own for some GPUs, imported only when they are chosen. SageAttention
computes in eight bits, so its results differ slightly. None has been run here on a GPU.

Legend: B batch, N tokens, D width.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import InvalidInput, Unavailable
from engine.model.blocks import attend
from engine.model.helios.attention import WanAttention

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # (B, heads, N, head_dim) three times → (B, N, D)
SDPA, FLASH, SAGE = "sdpa", "flash3", "sage"
LIBRARIES = {FLASH: "flash_attn_interface", SAGE: "sageattention"}
CAPABILITIES = {FLASH: (90, 90), SAGE: (80, 129)}  # least and most compute capability that the library names
WHERE = {
    FLASH: "github.com/Dao-AILab/flash-attention, folder hopper",
    SAGE: "pip install sageattention, or github.com/thu-ml/SageAttention",
}


def attention_kernel(name: str, device: torch.device) -> Attend:
    """Raises InvalidInput for an unknown name, Unavailable without the device or the library that it
    needs."""
    if name == SDPA:
        return attend
    if name not in LIBRARIES:
        known = ", ".join((SDPA, *LIBRARIES))
        raise InvalidInput(f"attention: {name!r} is not one of {known}", field="attention")
    if device.type != "cuda":
        raise Unavailable(f"attention: {name} needs a CUDA device, here is {device.type}", field="attention")
    major, minor = torch.cuda.get_device_capability(device)
    least, most = CAPABILITIES[name]
    if not least <= 10 * major + minor <= most:
        raise Unavailable(
            f"attention: {name} needs compute capability {least / 10} to {most / 10}, this device has "
            f"{major}.{minor}; choose {SDPA}",
            field="attention",
        )
    try:
        library: Any = importlib.import_module(LIBRARIES[name])
    except ImportError as e:
        raise Unavailable(
            f"attention: {name} is not installed ({WHERE[name]}): {e}", field="attention"
        ) from e
    return partial(_flash, library) if name == FLASH else partial(_sage, library)


def _flash(library: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Its layout is (B, N, heads, head_dim); some versions return the log-sum too."""
    out = library.flash_attn_func(*(x.transpose(1, 2) for x in (q, k, v)))
    first: Tensor = out[0] if isinstance(out, tuple) else out
    return first.flatten(2)


def _sage(library: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    out: Tensor = library.sageattn(q, k, v, tensor_layout="HND", is_causal=False)
    return out.transpose(1, 2).flatten(2)


def use_attention(model: nn.Module, kernel: Attend) -> None:
    """In every attention of the transformer."""
    for module in model.modules():
        if isinstance(module, WanAttention):
            module.attend = kernel
