"""The DiT's stage: phases in order, resumed exactly, started from other weights, and each objective
learns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine.errors import ModelFilesError
from engine.training.dit import stage as dit
from engine.training.dit.objectives import OBJECTIVES, teacher_forcing
from engine.training.dit.stage import Curriculum, checkpoint_blocks, choose_trained
from engine.training.recipe import Phase
from tests.rigs.engine.training_rig import some_chains, train_tiny, trainable

TEACHER = Phase(name="teacher", steps=4, batch=4, fresh=0.2)
DIRECT = Phase(name="direct", objective="direct", steps=4, batch=4, chain=(1, 2), bptt=1, forced=0.5)
SPLIT = Phase(name="few-step", objective="direct", steps=3, batch=4, chain=(2,), split=0.5)
OUTPUT = Phase(name="student", objective="student", steps=2, batch=2, train="output", rollout_steps=2)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing has tests of its own."""
    monkeypatch.setattr(dit, "draw_curves", lambda *_: False)
    monkeypatch.setattr(dit, "contact_sheet", lambda *_: torch.zeros(3, 2, 2, dtype=torch.uint8))
    monkeypatch.setattr(dit, "sample_errors", lambda *_: {"error_4_steps": 1.0})
    monkeypatch.setattr(dit, "matmul_ceiling", lambda *_: 1e9)


def curve(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "dit.jsonl").read_text().splitlines()]


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.slow
def test_a_run_stopped_anywhere_and_resumed_is_the_run_itself_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases = (TEACHER, DIRECT, SPLIT)
    straight = train_tiny(tmp_path / "a", phases)
    work = dit.Work.__call__

    def interrupted(self: dit.Work) -> dict[str, float]:
        self.run.stopped = self.run.step + 1 in (2, 6, 10)  # once in each phase
        return work(self)

    monkeypatch.setattr(dit.Work, "__call__", interrupted)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            train_tiny(tmp_path / "b", phases)
        torch.manual_seed(99)
    resumed = train_tiny(tmp_path / "b", phases)
    assert same(straight.state_dict(), resumed.state_dict())
    a, b = (torch.load(tmp_path / n / "dit.pt", weights_only=True) for n in "ab")
    assert same(a["live"], b["live"])
    assert torch.equal(a["random"], b["random"])
    assert a["step"] == b["step"] == 11


def test_phases_follow_each_other_and_each_leaves_its_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_tiny(tmp_path, (TEACHER, DIRECT), until="teacher")
    assert (tmp_path / "dit.teacher.pt").exists()
    assert not (tmp_path / "dit.direct.pt").exists()
    train_tiny(tmp_path, (TEACHER, DIRECT))
    files = {p.name for p in tmp_path.iterdir()}
    assert {"dit.direct.pt", "dit.final.pt", "dit.pt", "dit.samples.png"} <= files
    assert [r["phase"] for r in curve(tmp_path) if "error_4_steps" in r] == ["teacher", "direct"]
    said = capsys.readouterr().out
    assert "teacher: " in said
    assert "GFLOP a sample, cpu multiplies matrices at 1 GFLOP/s" in said
    final = torch.load(tmp_path / "dit.final.pt", weights_only=True)
    assert same(final["state"], torch.load(tmp_path / "dit.direct.pt", weights_only=True)["state"])
    assert final["config"]["dim"] == 32


def test_phases_are_told_apart_by_their_share() -> None:
    c = Curriculum((TEACHER, DIRECT, SPLIT))
    assert [c.at(n / 11)[0].name for n in (0, 3, 4, 7, 8, 11)] == [
        "teacher", "teacher", "direct", "direct", "few-step", "few-step",
    ]  # fmt: skip
    assert c.at(6 / 11)[1] == pytest.approx(0.5)


def test_the_papers_second_stage_moves_the_last_norm_and_projection_and_nothing_else(tmp_path: Path) -> None:
    train_tiny(tmp_path, (TEACHER,))
    before = torch.load(tmp_path / "dit.pt", weights_only=True)["live"]
    train_tiny(tmp_path, (TEACHER, OUTPUT))
    after = torch.load(tmp_path / "dit.pt", weights_only=True)["live"]
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"norm_out", "proj_out"}


def test_what_is_trained_changes_with_the_phase() -> None:
    """Jumps stay out of it until a phase splits intervals: at d = 0 their embedding would learn a
    constant."""
    model = trainable()

    def frozen(phase: Phase) -> set[str]:
        choose_trained(model, phase)
        return {n.split(".")[0] for n, p in model.named_parameters() if not p.requires_grad}

    assert frozen(OUTPUT) >= {"memorize", "squeeze", "text_slots", "jump_embedder"}
    assert frozen(TEACHER) == {"jump_embedder"}
    assert frozen(SPLIT) == set()


def test_recomputed_activations_give_the_same_gradients() -> None:
    gradients = []
    for again in (False, True):
        model = trainable()
        if again:
            checkpoint_blocks(model)
        torch.manual_seed(1)
        for loss in teacher_forcing(model, some_chains(), TEACHER):
            loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    first, second = gradients
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name])


@pytest.mark.parametrize("phase", [DIRECT, SPLIT, OUTPUT], ids=lambda p: p.name)
def test_half_precision_meets_no_clash_of_types(phase: Phase) -> None:
    """What a GPU would run, on the CPU: bf16 inside, losses and gradients in fp32."""
    model, mean = trainable(), trainable()
    choose_trained(model, phase)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        for loss in OBJECTIVES[phase.objective](model, some_chains(fresh=0.3), phase, mean):
            assert loss.dtype == torch.float32
            loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(g.dtype == torch.float32 and bool(g.isfinite().all()) for g in gradients)


def test_other_weights_are_a_start_and_what_does_not_fit_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_tiny(tmp_path / "first", (TEACHER,))
    weights = torch.load(tmp_path / "first" / "dit.final.pt", weights_only=True)
    weights["state"]["gone"] = weights["state"].pop("psi_bias", torch.zeros(1))
    torch.save(weights, tmp_path / "w.pt")
    capsys.readouterr()
    model = train_tiny(
        tmp_path / "second", (replace(TEACHER, steps=1),), init=str(tmp_path / "w.pt"), lr=1e-9
    )
    assert "not used: gone" in capsys.readouterr().out
    torch.testing.assert_close(model.proj_out.weight, weights["state"]["proj_out.weight"])


def test_a_start_that_holds_no_weights_is_named(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(b"nothing")
    with pytest.raises(ModelFilesError, match=r"init: .*w.pt holds no weights of ours") as e:
        train_tiny(tmp_path / "run", (TEACHER,), init=str(tmp_path / "w.pt"))
    assert e.value.field == "init"
