"""Which role computes in which precision: bf16 or fp16 where it saves time, fp32 where errors would add up.

Inputs and outputs are always fp32, as the contract says. Times, noise levels, positions and rotations stay
fp32 inside. A graph states all of this in its own types, as strongly typed engines need.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from engine.errors import InvalidInput
from engine.model.signature import Role

M = TypeVar("M", bound=nn.Module)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
LOW = ("denoise", "memorize", "squeeze")  # the others take too little time to matter
# bf16 cannot tell neighbouring steps apart, or neighbouring places in the world.
EXACT = ("t", "d", "sigma", "index", "marks", "look", "landmarks")


def dtype(precision: str) -> torch.dtype:
    """Raises InvalidInput for an unknown precision."""
    if precision not in DTYPES:
        raise InvalidInput(
            f"unknown precision {precision!r}; choose one of {', '.join(DTYPES)}", field="precision"
        )
    return DTYPES[precision]


def precision_of(role: str, precision: str) -> str:
    """The precision a role computes in if `precision` is requested for the model."""
    return precision if role in LOW else "fp32"


def lowered(model: M, kind: torch.dtype) -> M:
    """A copy with parameters of type `kind`. Buffers, which include the rotations, keep theirs."""
    model = copy.deepcopy(model)
    for p in model.parameters():
        p.data = p.data.to(kind)
    return model


class Low(nn.Module):
    """A role whose module computes in another type than that of its inputs and outputs."""

    def __init__(self, module: nn.Module, inputs: Sequence[str], kind: torch.dtype) -> None:
        super().__init__()
        self.module, self.kind = module, kind
        self.names = tuple(inputs)

    def forward(self, *inputs: Tensor) -> Tensor:
        cast = [
            x.to(self.kind) if x.is_floating_point() and name not in EXACT else x
            for name, x in zip(self.names, inputs, strict=True)
        ]
        out: Tensor = self.module(*cast)
        return out.float()


def low_roles(
    roles: Mapping[str, nn.Module], contract: Mapping[str, Role], kind: torch.dtype
) -> dict[str, nn.Module]:
    """The roles that may compute in `kind`, for a model whose parameters have that type."""
    return {role: Low(roles[role], contract[role].input_names, kind) for role in LOW}
