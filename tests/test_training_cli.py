"""`psistream train`: mistakes are one line that says what to do; stages and recipes find their settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.training.cli import adapt, main, parser
from engine.training.recipe import Recipe, load

RECIPE = load("wander")


def adapted(*arguments: str) -> Recipe:
    args = parser().parse_args(list(arguments))
    return adapt(RECIPE, args.what, args)


def test_a_stage_says_which_stage_comes_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dit", "--run", str(tmp_path), "--minutes", "1"]) == 1
    assert "autoencoder.final.pt not found: train the earlier stage first" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dit", "--minutes", "0"], "--minutes must be above 0"),
        (["dit", "--minutes", "1", "--steps", "1"], "give --minutes or --steps, not both"),
        (["vae"], "no recipe vae; packaged are wander, or name a .toml file; stages are autoencoder, "),
        (["wander", "--minutes", "5"], "are for one stage, not for a whole recipe"),
        (["dit", "--recipe", "none.toml"], "no recipe none.toml; packaged are wander"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    assert said in capsys.readouterr().err


def test_a_broken_recipe_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[dit]\nspeed = 3\n")
    assert main([str(path), "--run", str(tmp_path)]) == 1
    assert "recipe.dit: unknown key 'speed'; known are" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["mine.toml"]


def test_the_command_line_overrides_the_recipe() -> None:
    dit = adapted("dit", "--minutes", "90", "--lr", "5e-4", "--init", "w.pt").dit
    assert sum(p.minutes for p in dit.phases) == pytest.approx(90)
    assert [p.minutes / 90 for p in dit.phases] == pytest.approx(
        [p.minutes / sum(q.minutes for q in RECIPE.dit.phases) for p in RECIPE.dit.phases]
    )
    assert dit.lr == 5e-4
    assert dit.init == "w.pt"
    stage = adapted("autoencoder", "--steps", "7", "--seed", "3")
    assert stage.autoencoder is not None
    assert RECIPE.autoencoder is not None
    assert (stage.autoencoder.steps, stage.autoencoder.minutes, stage.seed) == (7, 0, 3)
    assert stage.autoencoder.lr == RECIPE.autoencoder.lr


def test_a_phase_may_be_asked_for_by_name() -> None:
    steps = adapted("direct", "--steps", "100").dit.until("direct")
    assert [p.name for p in steps] == ["teacher", "direct"]
