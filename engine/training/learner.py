"""A network with its optimiser and moving average, and the training loop of every stage.

`fit` runs schedule, update, step, note, validate and save. `Learner.state` holds all that determines the next
step: weights, average, optimiser and every source of randomness. A resumed run therefore equals an
uninterrupted one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from engine.errors import ModelFilesError
from engine.training.muon import Muon
from engine.training.run import Run, clip_and_step, write

M = TypeVar("M", bound=nn.Module)


class Ema(Generic[M]):
    """Exponential moving average of a module's parameters, as a module. Its decay is warmed up as usual."""

    def __init__(self, module: M, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.module: M = copy.deepcopy(module).requires_grad_(False).eval()
        self.shadow: list[Tensor] = list(self.module.parameters())
        self.source: list[Tensor] = list(module.parameters())

    @torch.no_grad()
    def update(self) -> None:
        self.steps += 1
        decay = min(self.decay, (self.steps + 1) / (self.steps + 10))
        torch._foreach_lerp_(self.shadow, [p.detach() for p in self.source], 1 - decay)


class Learner(Generic[M]):
    def __init__(
        self,
        model: M,
        *,
        ema: float,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.01,
        generators: Mapping[str, torch.Generator] | None = None,
        groups: Sequence[dict[str, Any]] = (),
    ) -> None:
        """`groups` of parameters with settings of their own, all of the model's; see engine.training.muon."""
        self.model = model
        trained = list(groups) or model.parameters()
        self.optimizer = Muon(trained, lr=0.0, betas=betas, weight_decay=weight_decay)
        self.ema: Ema[M] = Ema(model, ema)
        self.generators = dict(generators or {})

    @property
    def mean(self) -> M:
        """The averaged network, which is validated and shipped."""
        return self.ema.module

    def step(self) -> None:
        clip_and_step(self.optimizer, self.model.parameters())
        self.ema.update()

    def state(self) -> dict[str, Any]:
        return {
            "live": self.model.state_dict(),
            "mean": self.mean.state_dict(),
            "averaged": self.ema.steps,
            "optimizer": self.optimizer.state_dict(),
            "generators": {n: g.get_state() for n, g in self.generators.items()},
            "random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Raises ModelFilesError if the checkpoint belongs to another network."""
        try:
            self.model.load_state_dict(state["live"])
            self.mean.load_state_dict(state["mean"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as e:
            raise ModelFilesError(
                f"the checkpoint is of another network ({str(e).splitlines()[0]}): use another --run folder, "
                "or start from its weights with --init",
                field="run",
            ) from None
        self.ema.steps = state["averaged"]
        for name, generator in self.generators.items():
            generator.set_state(state["generators"][name])
        torch.set_rng_state(state["random"])
        if state["cuda_random"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda_random"])


def fit(
    run: Run,
    learner: Learner[M],
    update: Callable[[], dict[str, float]],
    *,
    validate: Callable[[], None],
    validate_every: int = 500,
    until: float = 1.0,
    share: float = 1.0,
) -> None:
    """Train up to the share `until` of the run's budget, at `share` of its learning rate. `update` computes
    gradients and returns figures, including the loss.

    Saves every few minutes and at the end. Raises NotFinite, or KeyboardInterrupt after saving."""
    with run.interruptible():
        while run.progress < until and not run.stopped:
            run.schedule(learner.optimizer, share)
            run.note(**update())
            learner.step()
            if run.step % validate_every == 0:
                validate()
            if run.due():
                run.save(learner.state())
        run.save(learner.state())
    if run.stopped:
        raise KeyboardInterrupt


def mixed_precision(device: torch.device) -> AbstractContextManager[object]:
    """Autocast to bf16 on devices where it is fast. CPUs compute in fp32."""
    if device.type != "cuda":
        return nullcontext()
    # no cache: older PyTorch reuses a cast made without gradients where gradients are needed (pytorch#112583)
    return torch.autocast("cuda", torch.bfloat16, cache_enabled=False)


def save_weights(path: Path, model: nn.Module, config: Any) -> None:
    """Save {"config", "state"}, which later stages, `--init` and `psistream export` read."""
    write(path, {"config": asdict(config), "state": model.state_dict()})


def load_matching(model: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Load tensors whose name and shape match. Returns the names of all others, of either side."""
    own = model.state_dict()
    fits = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    model.load_state_dict(fits, strict=False)
    return sorted((own.keys() | state.keys()) - fits.keys())
