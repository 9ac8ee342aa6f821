"""`psistream train`: mistakes are one line that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.training.cli import main


def test_a_stage_says_which_stage_comes_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dit", "--run", str(tmp_path), "--minutes", "1"]) == 1
    assert "autoencoder.final.pt not found: train the earlier stage first" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dit", "--minutes", "0"], "--minutes must be above 0"),
        (["dit"], "required: --minutes"),
        (["vae", "--minutes", "1"], "invalid choice: 'vae'"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as e:
        main(arguments)
    assert e.value.code == 2
    assert said in capsys.readouterr().err
