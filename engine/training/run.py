"""What every training stage shares: a time budget, learning-rate schedule, EMA, checkpoints and curves.

A run is a folder: `STAGE.pt` (latest checkpoint), `STAGE.jsonl` (curve). It resumes where it was and says
where it is. It does not know models or data.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import PsistreamError


class NotFinite(PsistreamError):
    """The loss is NaN or infinite: training stops here, the last checkpoint is from before."""

    code = "not_finite"


class Ema:
    """Exponential moving average of a module's parameters, with the usual warm-up of its decay."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.shadow = [p.detach().clone() for p in module.parameters()]
        self.source = list(module.parameters())

    @torch.no_grad()
    def update(self) -> None:
        self.steps += 1
        decay = min(self.decay, (self.steps + 1) / (self.steps + 10))
        torch._foreach_lerp_(self.shadow, [p.detach() for p in self.source], 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange averaged and live weights; call twice around an evaluation."""
        for live, mean in zip(self.source, self.shadow, strict=True):
            keep = live.detach().clone()
            live.copy_(mean)
            mean.copy_(keep)


class Run:
    """One stage under a budget of seconds, resumable; seconds of earlier sittings count."""

    def __init__(
        self, folder: Path, stage: str, budget_s: float, *, lr: float, warmup: int, hold: float
    ) -> None:
        self.folder, self.stage, self.budget_s = folder, stage, budget_s
        self.lr, self.warmup, self.hold = lr, warmup, hold
        self.step, self.spent_s = 0, 0.0
        self._since = time.monotonic()
        self._said = self._saved = -1e9
        self._mean: dict[str, float] = {}
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def elapsed_s(self) -> float:
        return self.spent_s + time.monotonic() - self._since

    @property
    def progress(self) -> float:
        return min(1.0, self.elapsed_s / self.budget_s)

    def begin(self) -> None:
        """Preparations are over: the budget counts from here."""
        self._since = time.monotonic()

    def schedule(self, optimizer: torch.optim.Optimizer) -> None:
        """Linear warm-up, then flat up to `hold` of the budget, then cosine to 3 %."""
        after = max(0.0, (self.progress - self.hold) / (1 - self.hold))
        lr = (
            self.lr
            * min(1.0, (self.step + 1) / self.warmup)
            * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * after)))
        )
        for group in optimizer.param_groups:
            group["lr"] = lr * group.get("scale", 1.0)

    def note(self, loss: Tensor, **figures: float) -> None:
        """Count a step; keep running means; say and log them about every 20 s. Raises NotFinite."""
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NotFinite(
                f"{self.stage}: loss is {value} at step {self.step}; resume with a lower --lr", field="lr"
            )
        self.step += 1
        for name, figure in {"loss": value, **figures}.items():
            self._mean[name] = 0.97 * self._mean.get(name, figure) + 0.03 * figure
        if time.monotonic() - self._said > 20:
            self._said = time.monotonic()
            self.log(**self._mean)

    def log(self, **figures: float) -> None:
        row: dict[str, Any] = {"step": self.step, "elapsed_s": round(self.elapsed_s, 1)}
        row |= {k: round(v, 5) for k, v in figures.items()}
        with (self.folder / f"{self.stage}.jsonl").open("a") as f:
            f.write(json.dumps(row) + "\n")
        rest = "  ".join(f"{k} {v:.4g}" for k, v in figures.items())
        print(f"{self.stage} {100 * self.progress:5.1f} %  step {self.step}  {rest}", flush=True)

    def save(self, state: dict[str, Any], *, every_s: float = 0.0) -> None:
        """Write the checkpoint atomically, unless the last one is younger than `every_s`."""
        if time.monotonic() - self._saved < every_s:
            return
        self._saved = time.monotonic()
        path = self.folder / f"{self.stage}.pt"
        torch.save(state | {"step": self.step, "elapsed_s": self.elapsed_s}, path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)

    def resume(self) -> dict[str, Any] | None:
        path = self.folder / f"{self.stage}.pt"
        if not path.exists():
            return None
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        self.step, self.spent_s = state["step"], state["elapsed_s"]
        self._since = time.monotonic()
        return state


def clip_and_step(
    optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter], norm: float = 1.0
) -> float:
    """Clip gradients to `norm`, step, zero. Returns the norm before clipping."""
    before = float(nn.utils.clip_grad_norm_(parameters, norm))
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return before
