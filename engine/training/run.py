"""What every training stage shares: a budget, a learning-rate schedule, checkpoints, curves, a clean stop.

A run is a folder with `STAGE.pt` (latest checkpoint) and `STAGE.jsonl` (curve). It can be resumed, and it
reports its progress. Models and data are unknown here.
"""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import ModelFilesError, PsistreamError
from engine.training.progress import Screen

SAY_EVERY_S = 20.0
SAVE_EVERY_S = 150.0


class NotFinite(PsistreamError):
    """The loss is NaN or infinite. Training stops, and the last checkpoint is an earlier one."""

    code = "not_finite"


class Run:
    """One stage with a budget of seconds or of steps. It can be resumed; earlier sittings count."""

    def __init__(
        self,
        folder: Path,
        stage: str,
        budget_s: float = 0.0,
        *,
        steps: int = 0,
        lr: float,
        warmup: int,
        hold: float,
    ) -> None:
        self.folder, self.stage, self.budget_s, self.steps = folder, stage, budget_s, steps
        self.lr, self.warmup, self.hold = lr, warmup, hold
        self.step, self.spent_s = 0, 0.0
        self.stopped = False
        self.tags: dict[str, str] = {}  # logged with every figure
        self.screen = Screen()
        self._since = time.monotonic()
        self._said, self._saved = -1e9, self._since
        self._mean: dict[str, float] = {}
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def elapsed_s(self) -> float:
        return self.spent_s + time.monotonic() - self._since

    @property
    def progress(self) -> float:
        return min(1.0, self.step / self.steps if self.steps else self.elapsed_s / self.budget_s)

    def begin(self) -> None:
        """Start to count the budget, once preparations are over."""
        self._since = self._saved = time.monotonic()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """While entered, Ctrl-C and SIGTERM request a stop at the end of the step, and a second one stops at
        once. The screen shows a bar."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: FrameType | None) -> None:
            if self.stopped:
                raise KeyboardInterrupt
            self.stopped = True

        before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
        self.screen.open(self.stage)
        try:
            yield
        finally:
            self.screen.close()
            for s, handler in before.items():
                signal.signal(s, handler)

    def rate(self) -> float:
        """Linear warm-up, then constant up to `hold` of the budget, then a cosine to 3 %."""
        after = max(0.0, (self.progress - self.hold) / (1 - self.hold)) if self.hold < 1 else 0.0
        cosine = 0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * after))
        return self.lr * min(1.0, (self.step + 1) / self.warmup) * cosine

    def schedule(self, optimizer: torch.optim.Optimizer, share: float = 1.0) -> None:
        """Set the step's learning rate; a group's `scale` multiplies it."""
        for group in optimizer.param_groups:
            group["lr"] = share * self.rate() * group.get("scale", 1.0)

    def note(self, loss: Tensor | float, **figures: float) -> None:
        """Count a step and update running means, which are printed and logged about every 20 s. Raises
        NotFinite."""
        value = float(loss.detach()) if isinstance(loss, Tensor) else loss
        if not math.isfinite(value):
            raise NotFinite(
                f"{self.stage}: loss is {value} at step {self.step}; resume with a lower --lr", field="lr"
            )
        self.step += 1
        for name, figure in {"loss": value, **figures}.items():
            self._mean[name] = 0.97 * self._mean.get(name, figure) + 0.03 * figure
        self.screen.at(self.progress, f"{self.stage} step {self.step} loss {self._mean['loss']:.4g}")
        if time.monotonic() - self._said > SAY_EVERY_S:
            self._said = time.monotonic()
            self.log(**self._mean)

    def log(self, **figures: float) -> None:
        """Append to the curve and print it."""
        row: dict[str, Any] = {"step": self.step, "elapsed_s": round(self.elapsed_s, 1)}
        row |= self.tags | {k: round(v, 5) for k, v in figures.items()}
        with (self.folder / f"{self.stage}.jsonl").open("a") as f:
            f.write(json.dumps(row) + "\n")
        rest = "  ".join(f"{k} {v:.4g}" for k, v in figures.items())
        where = " ".join([self.stage, *self.tags.values()])
        self.screen.line(f"{where} {100 * self.progress:5.1f} %  step {self.step}  {rest}")

    def save(self, state: dict[str, Any]) -> None:
        """Write the checkpoint atomically."""
        self._saved = time.monotonic()
        path = self.folder / f"{self.stage}.pt"
        own = {"step": self.step, "elapsed_s": self.elapsed_s, "means": self._mean}
        write(path, state | own)

    def due(self, every_s: float = SAVE_EVERY_S) -> bool:
        """Whether it is time for a checkpoint."""
        return time.monotonic() - self._saved > every_s

    def resume(self) -> dict[str, Any] | None:
        """Load the checkpoint and continue from it. Raises ModelFilesError if it belongs to another run."""
        path = self.folder / f"{self.stage}.pt"
        if not path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
            self.step, self.spent_s, self._mean = state["step"], state["elapsed_s"], state["means"]
        except (KeyError, TypeError, RuntimeError, EOFError, OSError, ValueError, UnpicklingError) as e:
            raise ModelFilesError(
                f"{path} is no checkpoint of this version ({type(e).__name__}): use another --run folder",
                field="run",
            ) from None
        self._since = time.monotonic()
        return state


def clip_and_step(
    optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter], norm: float = 1.0
) -> float:
    """Clip gradients to `norm`, step, zero. Returns the norm before clipping. Raises NotFinite."""
    before = float(nn.utils.clip_grad_norm_(parameters, norm))
    if not math.isfinite(before):
        raise NotFinite(f"the gradient's norm is {before}; resume with a lower --lr", field="lr")
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return before


def write(path: Path, data: dict[str, Any]) -> None:
    """torch.save, atomically."""
    torch.save(data, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)
