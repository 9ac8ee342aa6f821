"""Muon: orthogonal steps for the matrices of hidden layers, and AdamW for everything else.

Source: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024). The scale of a
step is Moonlight's (arXiv 2502.16982, Eq. 4), so that learning rates for AdamW fit. PyTorch's own Muon
computes in bf16, which most CPUs emulate: a step cost more there than the gradient. This one computes in the
type of the weights, and in one batch for all matrices of a shape.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the Newton-Schulz iteration (Jordan et al.)
ITERATIONS = 5
SCALE = 0.2  # root mean square of a step, about AdamW's
MOMENTUM = 0.95  # Nesterov's


class Muon(torch.optim.AdamW):
    """Groups with `hidden=True` hold matrices and get Muon's steps. All others get AdamW's."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        for group in self.param_groups:
            if group.get("hidden"):
                self._muon(group)
        loss: float | None = super().step(closure)
        return loss

    def _muon(self, group: dict[str, Any]) -> None:
        updates: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
        for p in group["params"]:
            if p.grad is not None:
                state = self.state[p]
                if not state:  # AdamW looks for a step in every state that it loads
                    state |= {"step": torch.zeros(()), "momentum": torch.zeros_like(p)}
                mean = state["momentum"]
                mean.lerp_(p.grad, 1 - MOMENTUM)
                updates[p.shape].append((p, p.grad.lerp(mean, MOMENTUM)))
                p.grad = None  # so that AdamW leaves it alone
        for shape, rows in updates.items():
            steps = orthogonal(torch.stack([update for _, update in rows]))
            rate = group["lr"] * SCALE * max(shape) ** 0.5
            for (p, _), step in zip(rows, steps, strict=True):
                p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(step, alpha=rate)


def orthogonal(matrices: Tensor) -> Tensor:
    """(N, rows, columns) → matrices of the same row and column spaces with singular values near 1."""
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    steps: Tensor = x if wide else x.mT
    return steps
