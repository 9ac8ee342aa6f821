"""Plans of variants: the recipe and initial weights of each variant, and invalid plans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from engine.commands import train as cli
from engine.errors import InvalidInput
from engine.model.wander.autoencoder import Autoencoder, AutoencoderConfig
from engine.training.learner import save_weights
from engine.variants.plan import plan_of, read_plan
from engine.variants.train import finished

PLAN = read_plan("variants")
SMALL = """
seed = 1
[model]
dim = 32
heads = 1
double_blocks = 1
single_blocks = 1
mlp_ratio = 1
[data]
length = 2
start = 8
limit = 8
journey_start = 8
journey_length = 4
[dit]
warmup = 1
[phase]
batch = 2
chain = [1]
prefix = 0
[[variants]]
name = "one"
title = "stage one"
steps = 2
[[variants]]
name = "two"
title = "the other way round"
after = "one"
backwards = true
steps = 1
"""


def plan(**second: Any) -> dict[str, Any]:
    return {"variants": [{"name": "a", "steps": 1}, {"name": "b", "steps": 1, "after": "a", **second}]}


def test_the_packaged_plan_has_all_variants_of_the_paper() -> None:
    names = {v.name for v in PLAN.variants}
    assert {
        "w",
        "w-and-a",
        "window",
        "f0",
        "f1",
        "memorypack",
        "b",
        "c",
        "zero",
        "student",
        "direct-output",
    } <= names
    assert {v.control for v in PLAN.variants} - {""} <= names
    recipes = {v.name: PLAN.recipe(v.name, Path("run")) for v in PLAN.variants}
    assert recipes["b"].config().memory.structure == "B"
    assert recipes["zero"].config().memory.start == "zero"
    assert recipes["window"].config().packing.history == (0, 0, 4)
    seeing = {name for name, r in recipes.items() if (camera := r.config().camera) and camera.places}
    assert seeing == {"w", "w-and-a"}
    assert recipes["student"].dit.phases[0].objective == "student"
    assert recipes["direct-output"].dit.phases[0].train == "output"


def test_variants_of_a_round_have_the_same_budget_data_and_seed() -> None:
    by_start: dict[str, set[Any]] = {}
    for v in PLAN.variants:
        recipe = PLAN.recipe(v.name, Path("run"))
        (phase,) = recipe.dit.phases
        said = (phase.steps, phase.batch, phase.journeys, recipe.data, recipe.seed, recipe.dit.lr)
        by_start.setdefault(v.after, set()).add(said)
    assert all(len(found) == 1 for found in by_start.values())


def test_scale_and_seed_apply_to_all_variants() -> None:
    usual, longer = (PLAN.recipe("f1", Path("r"), scale=s, seed=7) for s in (1.0, 4.0))
    assert longer.dit.phases[0].steps == 4 * usual.dit.phases[0].steps
    assert longer.seed == 7
    assert longer.dit.init == "r/backbone/dit.final.pt"


def test_no_memory_means_none() -> None:
    """With this key bias ψ has an attention weight of exactly zero and no gradient: FramePack without
    SemanticPack."""
    from engine.model.conditions import denoise_inputs
    from engine.model.wander.transformer import WanderDiT
    from tests.rigs.engine import tiny

    bias = PLAN.recipe("f1", Path()).config().memory.key_bias
    from dataclasses import replace

    config = replace(tiny.DIT, memory=replace(tiny.DIT.memory, key_bias=bias))
    torch.manual_seed(0)
    model, call = WanderDiT(config), denoise_inputs(tiny.inputs(config))
    psi = call.given.psi.requires_grad_()
    answer = model(*call)
    other = replace(call.given, psi=torch.randn_like(psi))
    assert torch.equal(answer, model(*call._replace(given=other)))
    answer.sum().backward()
    assert psi.grad is not None
    assert not psi.grad.any()


def test_a_variant_is_trained_after_the_one_it_starts_from() -> None:
    assert [v.name for v in PLAN.needed(["student", "b"])] == ["backbone", "memorypack", "student", "b"]
    with pytest.raises(InvalidInput, match="no variant 'x'; known are backbone"):
        PLAN.needed(["x"])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "a plan lists"),
        (plan(after="c"), "after = 'c' is not a variant above it"),
        (plan(name="a"), "needs a unique name"),
        (plan(name="../a"), "needs a unique name"),
        (plan(steps=0), "needs either steps or weights"),
        (plan(weights="w.pt"), "needs either steps or weights"),
        (plan(speed=3), "unknown key 'speed'"),
        (plan(model={"memory": {"structure": "D"}}), "structure is 'D'"),
        (plan(phase={"forced": 2}), "forced must lie between 0 and 1"),
    ],
)
def test_invalid_plans_are_refused(data: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        plan_of(data)


@pytest.mark.slow
def test_one_command_trains_them_in_order_and_skips_finished_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    small = Autoencoder(AutoencoderConfig(fine=8, coarse=12, decoder_fine=8, decoder_coarse=12))
    save_weights(tmp_path / "autoencoder.final.pt", small, small.config)
    (tmp_path / "plan.toml").write_text(SMALL)
    command = ["variants", "--run", str(tmp_path), "--plan", str(tmp_path / "plan.toml"), "--seeds", "0"]
    assert cli.main(command) == 0
    assert finished(tmp_path / "one", 2)
    assert not finished(tmp_path / "one", 3)
    assert finished(tmp_path / "two", 1)
    assert "one/dit.final.pt" in capsys.readouterr().out
    assert cli.main(command) == 0
    assert "GFLOP" not in capsys.readouterr().out  # nothing is trained twice
    assert cli.main([*command, "--scale", "2"]) == 2
    assert "one was trained with another dit: use another --run" in capsys.readouterr().err


def test_a_run_without_an_autoencoder_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["variants", "--run", str(tmp_path)]) == 2
    assert "autoencoder.final.pt not found" in capsys.readouterr().err
