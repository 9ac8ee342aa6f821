"""What every stage shares: its schedule, its checkpoints, resuming, and an end at the first bad number."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from engine.errors import ModelFilesError
from engine.training.run import NotFinite, Run, clip_and_step

BUDGET_S = 1e6  # so long that the clock's own progress does not show


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "deep" / "run", "stage", BUDGET_S, lr=0.1, warmup=10, hold=0.5)


@pytest.fixture
def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)


Rate = Callable[[int, float], float]


@pytest.fixture
def rate(run: Run, optimizer: torch.optim.Optimizer) -> Rate:
    """The learning rate at a step and a share of the budget."""

    def at(step: int, progress: float) -> float:
        run.step, run.spent_s = step, progress * BUDGET_S
        run.schedule(optimizer)
        return float(optimizer.param_groups[0]["lr"])

    return at


def test_the_rate_warms_up_holds_and_falls_to_three_percent(rate: Rate) -> None:
    assert rate(0, 0) == pytest.approx(0.01)
    assert rate(4, 0) == pytest.approx(0.05)
    assert rate(9, 0) == rate(1000, 0.49) == pytest.approx(0.1)
    assert rate(1000, 0.75) == pytest.approx(0.1 * (0.03 + 0.97 / 2), rel=1e-4)
    assert rate(1000, 1.0) == rate(1000, 2.0) == pytest.approx(0.003, rel=1e-4)


def test_a_groups_scale_multiplies_its_rate(run: Run) -> None:
    p = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([{"params": [p], "scale": 0.5}], lr=1.0)
    run.step = 100
    run.schedule(optimizer)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)


def test_a_run_resumes_where_it_was(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.step, run.spent_s = 42, 1234.0
    run.save({"weights": torch.arange(3)})
    later = Run(run.folder, "stage", BUDGET_S, lr=0.1, warmup=10, hold=0.5)
    state = later.resume()
    assert state is not None
    assert state["weights"].tolist() == [0, 1, 2]
    assert later.step == 42
    assert later.elapsed_s == pytest.approx(1234, abs=5)
    assert Run(run.folder, "other", BUDGET_S, lr=0.1, warmup=10, hold=0.5).resume() is None


def test_checkpoints_are_written_whole(run: Run) -> None:
    for n in (1, 2):
        run.save({"n": n})
        state = run.resume()
        assert state is not None
        assert state["n"] == n
    assert [f.name for f in run.folder.iterdir()] == ["stage.pt"]


def test_a_checkpoint_is_due_by_its_age(run: Run) -> None:
    assert not run.due()
    assert run.due(every_s=0.0)


@pytest.mark.parametrize("content", [b"no checkpoint", b""])
def test_a_foreign_checkpoint_is_named(run: Run, content: bytes) -> None:
    (run.folder / "stage.pt").write_bytes(content)
    with pytest.raises(ModelFilesError, match=r"stage.pt is no checkpoint of this version .*another --run"):
        run.resume()


def test_a_budget_of_steps_knows_no_clock(tmp_path: Path) -> None:
    run = Run(tmp_path, "stage", steps=8, lr=0.1, warmup=1, hold=0.5)
    run.spent_s = 1e9
    assert run.progress == 0
    run.note(1.0)
    run.note(1.0)
    assert run.progress == 0.25


def test_somebody_at_a_terminal_sees_a_bar(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdout", screen)
    with run.interruptible():
        run.note(0.25)
        run.log(psnr_db=34.5)
    assert "stage step 1 loss 0.25" in screen.getvalue()
    assert "psnr_db 34.5" in screen.getvalue()


def test_an_interrupt_waits_for_the_step_and_a_second_one_does_not(run: Run) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with run.interruptible():
        os.kill(os.getpid(), signal.SIGTERM)
        assert run.stopped
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_training_and_counts_as_no_step(run: Run, value: float) -> None:
    run.note(torch.tensor(1.0))
    with pytest.raises(NotFinite, match=r"stage: loss is (nan|inf) at step 1; resume with a lower --lr") as e:
        run.note(torch.tensor(value))
    assert e.value.field == "lr"
    assert run.step == 1


def test_figures_go_to_the_curve_and_to_the_screen(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.note(torch.tensor(0.5), samples_per_s=7.0)
    run.log(psnr_db=34.5)
    rows = [json.loads(line) for line in (run.folder / "stage.jsonl").read_text().splitlines()]
    assert rows[0] | {"elapsed_s": 0} == {"step": 1, "elapsed_s": 0, "loss": 0.5, "samples_per_s": 7.0}
    assert rows[1]["psnr_db"] == 34.5
    assert "psnr_db 34.5" in capsys.readouterr().out


def test_gradients_are_clipped_and_cleared() -> None:
    p = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([p], lr=1.0)
    p.grad = torch.tensor([30.0, 40.0])
    assert clip_and_step(optimizer, [p]) == pytest.approx(50)
    torch.testing.assert_close(p.detach(), -torch.tensor([0.6, 0.8]))
    assert p.grad is None


def test_a_gradient_that_is_no_number_never_reaches_the_weights() -> None:
    p = nn.Parameter(torch.ones(2))
    p.grad = torch.tensor([float("nan"), 0.0])
    with pytest.raises(NotFinite, match="gradient"):
        clip_and_step(torch.optim.SGD([p], lr=1.0), [p])
    assert p.tolist() == [1, 1]
