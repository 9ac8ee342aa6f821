"""`psistream model info helios`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from engine.commands.model_info import main
from engine.model.helios.config import HeliosConfig, PyramidConfig
from engine.model.helios.cost import call_flop, segment_flop
from engine.model.helios.serve import Conversion
from engine.model.helios.transformer import HeliosTransformer
from tests.rigs.models.helios import SMALL, at, inputs


def test_every_parameter_of_helios_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "helios"]) == 0
    text = capsys.readouterr().out
    assert "14,312,427,584 in 1101 tensors" in text
    assert "33 frames" in text
    assert main(["info", "helios", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [t["noisy"] for t in data["tokens"]] == [540, 2160, 8640]
    assert [sum(t.values()) for t in data["tokens"]] == [2940, 4560, 11040]


def test_a_converted_folder_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(Conversion(config=SMALL).to_json()))
    assert main(["info", str(tmp_path)]) == 0
    assert "192 x 128" in capsys.readouterr().out


def test_a_folder_with_an_invalid_config_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text('{"preset": "helios", "format": 1}')
    assert main(["info", str(tmp_path)]) == 2
    assert "is not what `psistream convert` writes" in capsys.readouterr().err


@pytest.mark.parametrize("config", [SMALL, at(192, 320, segment=9)], ids=["small", "larger"])
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_the_cost_of_a_call_is_what_torch_counts(config: HeliosConfig, stage: int) -> None:
    with torch.device("meta"):
        model = HeliosTransformer(config)
    given = {n: v.to("meta") for n, v in inputs(config, 1, stage).items()}
    projected = model.project(given.pop("text"))
    with FlopCounterMode(display=False) as counter:
        model(**given, projected=projected)
    assert call_flop(config, stage) == counter.get_total_flops()


@pytest.mark.parametrize(("steps", "tflop"), [((1, 1, 1), 548), ((2, 2, 1), 737), ((2, 2, 2), 1097)])
def test_the_cost_of_a_segment_is_as_counted_by_hand(steps: tuple[int, int, int], tflop: int) -> None:
    assert round(segment_flop(HeliosConfig(), PyramidConfig(steps=steps)) / 1e12) == tflop
