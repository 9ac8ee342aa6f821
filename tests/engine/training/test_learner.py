"""The loop that every stage shares: averages, checkpoints, and resuming as if nothing had happened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from engine.errors import ModelFilesError
from engine.training.learner import Ema, Learner, fit, load_matching, save_weights
from engine.training.run import NotFinite, Run


def test_the_average_follows_and_is_a_module_of_its_own() -> None:
    module = nn.Linear(2, 2, bias=False)
    ema = Ema(module, 0.9)
    start = module.weight.detach().clone()
    with torch.no_grad():
        module.weight += 1
    assert torch.equal(ema.module.weight, start)
    for _ in range(200):
        ema.update()
    torch.testing.assert_close(ema.module.weight, start + 1, atol=1e-6, rtol=0)
    assert not ema.module.weight.requires_grad


def session(folder: Path, steps: int, *, stop_at: int = 0) -> nn.Linear:
    """A training whose every step draws from torch's generator. It is interrupted after `stop_at` steps."""
    torch.manual_seed(0)
    learner = Learner(nn.Linear(3, 1), ema=0.9)
    run = Run(folder, "toy", steps=steps, lr=0.1, warmup=2, hold=0.5)
    if state := run.resume():
        learner.load(state)

    def update() -> dict[str, float]:
        x = torch.randn(4, 3)
        loss = (learner.model(x) - x.sum(1, keepdim=True)).pow(2).mean()
        loss.backward()
        run.stopped = run.step + 1 == stop_at
        return {"loss": float(loss.detach())}

    fit(run, learner, update, validate=lambda: None)
    return learner.mean


def test_a_resumed_run_is_the_run_itself(tmp_path: Path) -> None:
    straight = session(tmp_path / "a", 20)
    with pytest.raises(KeyboardInterrupt):
        session(tmp_path / "b", 20, stop_at=7)
    torch.manual_seed(99)
    resumed = session(tmp_path / "b", 20)
    assert torch.equal(straight.weight, resumed.weight)
    a, b = (torch.load(tmp_path / n / "toy.pt", weights_only=True) for n in "ab")
    assert torch.equal(a["random"], b["random"])
    assert a["means"] == b["means"]


def test_a_bad_number_ends_it_and_the_last_checkpoint_is_from_before(tmp_path: Path) -> None:
    learner = Learner(nn.Linear(1, 1), ema=0.9)
    run = Run(tmp_path, "toy", steps=5, lr=0.1, warmup=1, hold=0.5)
    run.save(learner.state())
    with pytest.raises(NotFinite):
        fit(run, learner, lambda: {"loss": float("nan")}, validate=lambda: None)
    state = run.resume()
    assert state is not None
    assert state["step"] == 0


def test_a_checkpoint_of_another_network_is_named(tmp_path: Path) -> None:
    state = Learner(nn.Linear(1, 1), ema=0.9).state()
    with pytest.raises(ModelFilesError, match=r"another network .*--init"):
        Learner(nn.Linear(2, 1), ema=0.9).load(state)


@dataclass(frozen=True)
class Width:
    width: int


def test_weights_that_fit_are_taken_and_the_others_are_named(tmp_path: Path) -> None:
    old = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2), "gone": nn.Linear(1, 1, bias=False)})
    new = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 3), "new": nn.Linear(1, 1, bias=False)})
    save_weights(tmp_path / "w.pt", old, Width(2))
    data = torch.load(tmp_path / "w.pt", weights_only=True)
    assert data["config"] == {"width": 2}
    left = load_matching(new, data["state"])
    assert left == ["b.bias", "b.weight", "gone.weight", "new.weight"]
    assert torch.equal(new["a"].weight, old["a"].weight)  # type: ignore[arg-type]
