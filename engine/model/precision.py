"""Which role computes in which precision: bf16 or fp16 where the time goes, fp32 where errors would recur.

Inputs and outputs are always the contract's fp32; times, noise levels and positions stay fp32 inside, and so
do the rotations. A graph says all of it with its own types, as strongly typed engines want.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from engine.errors import InvalidInput

M = TypeVar("M", bound=nn.Module)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
LOW = ("denoise", "memorize", "squeeze")  # the others take no time worth the loss
# bf16 can't tell neighbouring steps apart, nor places of the world.
EXACT = ("t", "d", "sigma", "index", "marks", "look", "landmarks")


def dtype(precision: str) -> torch.dtype:
    """Raises InvalidInput for one that there is not."""
    if precision not in DTYPES:
        raise InvalidInput(
            f"unknown precision {precision!r}; choose one of {', '.join(DTYPES)}", field="precision"
        )
    return DTYPES[precision]


def precision_of(role: str, precision: str) -> str:
    """What a role computes in where `precision` is asked for."""
    return precision if role in LOW else "fp32"


def lowered(model: M, kind: torch.dtype) -> M:
    """A copy whose parameters are of `kind`; buffers, rotations among them, stay as they are."""
    model = copy.deepcopy(model)
    for p in model.parameters():
        p.data = p.data.to(kind)
    return model


class Low(nn.Module):
    """A role whose module computes in another type than its inputs and outputs have."""

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
    roles: Mapping[str, nn.Module], inputs: Mapping[str, Sequence[str]], kind: torch.dtype
) -> dict[str, nn.Module]:
    """The roles that may compute in `kind`, of a model whose parameters are of `kind`."""
    return {role: Low(roles[role], inputs[role], kind) for role in LOW}
