"""`psistream train`: mistakes give one line with the fix, and stages and recipes get their settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from engine.commands.train import adapt, main, parser
from engine.training.learner import save_weights
from engine.training.recipe import Recipe, load
from tests.rigs.engine import tiny

RECIPE = load("wander")


def adapted(*arguments: str) -> Recipe:
    args = parser().parse_args(list(arguments))
    return adapt(RECIPE, args.what, args)


def test_a_stage_says_which_stage_comes_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dit", "--run", str(tmp_path), "--minutes", "1"]) == 2
    assert "autoencoder.final.pt not found: train the earlier stage first" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dit", "--minutes", "0"], "--minutes must be above 0"),
        (["dit", "--minutes", "nan"], "--minutes must be above 0"),
        (["dit", "--lr", "-1"], "--lr must be above 0"),
        (["dit", "--threads", "-1"], "--threads: must be 0 (all) to 1024, not -1"),
        (["dit", "--device", "toaster"], "--device: 'toaster' is no device of this machine; leave it out"),
        (["variants", "--run", ".", "--seconds", "nan"], "--seconds must be above 0"),
        (["dit", "--minutes", "1", "--steps", "1"], "give --minutes or --steps, not both"),
        (
            ["autoencoder", "--latents", "cache"],
            "--latents belongs to --videos: give that too, or leave it out",
        ),
        (["decoder", "--latents", "cache"], "--latents belongs to --videos"),
        (["vae"], "no recipe vae; packaged are videos, wander, or name a .toml file; stages are"),
        (["wander", "--minutes", "5"], "are for a single stage, not for a whole recipe"),
        (["dit", "--recipe", "none.toml"], "no recipe none.toml; packaged are videos, wander"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_a_broken_recipe_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[dit]\nspeed = 3\n")
    assert main([str(path), "--run", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "recipe.dit: unknown key 'speed'; known are checkpoint_blocks, ema" in said
    assert "stages are" not in said, "a list of what else could have been named"
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


def test_a_phase_can_be_selected_by_name() -> None:
    steps = adapted("direct", "--steps", "100").dit.until("direct")
    assert [p.name for p in steps] == ["teacher", "direct"]


BARE = """
import sys
from importlib.machinery import PathFinder

class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {hidden!r} else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Bare
from server.cli import main
sys.exit(main(["train", "few-step", "--recipe", {recipe!r}, "--run", {run!r}, "--device", "cpu"]))
"""
HIDDEN = {
    "rich", "matplotlib", "PIL", "tokenizers", "av", "pydantic", "fastapi", "uvicorn", "aiortc", "onnx",
    "onnxruntime", "httpx", "prometheus_client", "aiomqtt", "amqtt", "transformers", "diffusers",
}  # fmt: skip
SMALL = """
[model]
preset = "wander"
dim = 32
heads = 1
rope_axes = [8, 12, 12]
double_blocks = 1
single_blocks = 1
[data]
length = 4
start = 8
limit = 8
journey_length = 6
journey_start = 8
journey_limit = 8
[[dit.phases]]
name = "teacher"
steps = 1
batch = 2
[[dit.phases]]
name = "few-step"
objective = "direct"
steps = 1
batch = 2
chain = [2]
split = 0.5
journeys = 1.0
journey_prefix = 2
"""


@pytest.mark.slow
def test_the_dit_trains_with_nothing_but_torch_and_numpy(tmp_path: Path) -> None:
    """A bare CUDA image has neither our server's packages nor rich or matplotlib. Trains on the rendered
    world."""
    autoencoder = tiny.world_model().autoencoder
    save_weights(tmp_path / "autoencoder.final.pt", autoencoder, autoencoder.config)
    (tmp_path / "small.toml").write_text(SMALL)
    script = BARE.format(hidden=HIDDEN, recipe=str(tmp_path / "small.toml"), run=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "dit.few-step.pt").exists()
    assert "few-step: " in done.stdout
