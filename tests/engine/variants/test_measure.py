"""Each variant is measured once, and the table shows the finished ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from engine.errors import ModelFilesError
from engine.evaluation.instruments import landmark_reader as reader
from engine.evaluation.instruments import probe
from engine.model.config import ModelConfig
from engine.model.wander.autoencoder import Autoencoder, AutoencoderConfig
from engine.model.wander.transformer import WanderDiT
from engine.training.data.latents import Pool
from engine.training.learner import save_weights
from engine.variants.measure import Comparison, load_dit, measure_truth, measure_variant, write_table
from engine.variants.plan import DONE, Variant
from engine.world.motion import LEFT, RIGHT

SMALL = ModelConfig(dim=32, heads=1, double_blocks=1, single_blocks=1, mlp_ratio=1)
VARIANTS = [
    Variant("a", "variant A", control="b", paper=("MemoryPack",)),
    Variant("b", "variant B", backwards=True, paper=("F1, trained on their data",)),
    Variant("c", "never trained"),
]


def held_out() -> Pool:
    actions = torch.full((2, 56), RIGHT)
    actions[:, 28:] = LEFT
    latents = torch.randn(2, 56, 16, 12, 20).half()
    return Pool(latents, torch.zeros(2, 56, 5, dtype=torch.int64), actions)


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    """Two untrained models, measured by untrained instruments."""
    torch.manual_seed(0)
    small = Autoencoder(AutoencoderConfig(fine=8, coarse=12, decoder_fine=8, decoder_coarse=12))
    save_weights(tmp_path / "autoencoder.final.pt", small, small.config)
    for network, file in ((probe.Probe(), probe.FILE), (reader.LandmarkReader(), reader.FILE)):
        torch.save({"state": network.state_dict(), "accuracy": {"place": 0.1}}, tmp_path / file)
    for name in "ab":
        (tmp_path / name).mkdir()
        save_weights(tmp_path / name / DONE, WanderDiT(SMALL), SMALL)
    return Comparison(
        tmp_path,
        tmp_path,
        small.eval(),
        held_out,
        seeds=1,
        seconds=5.0,
        journey_s=0,
        returns=2,
        reference_frames=4,
    )


@pytest.mark.slow
def test_the_table_grows_with_each_variant_and_nothing_is_measured_twice(
    comparison: Comparison, capsys: pytest.CaptureFixture[str]
) -> None:
    measure_truth(comparison)
    measure_variant(comparison, VARIANTS[0])
    report = write_table(comparison, VARIANTS, {"seed": 1}).read_text()
    assert "variant A" in report
    assert "variant B" not in report
    measure_variant(comparison, VARIANTS[1])
    rows = (comparison.run / "a" / "evaluation" / "walk" / "rows.jsonl").read_bytes()
    measure_variant(comparison, VARIANTS[0])
    assert (comparison.run / "a" / "evaluation" / "walk" / "rows.jsonl").read_bytes() == rows
    assert (comparison.run / "a" / "evaluation" / "walk.png").is_file()
    report = write_table(comparison, VARIANTS, {"seed": 1}).read_text()
    assert "| paper: MemoryPack |" in report
    assert "| here: variant B |" in report
    assert "never trained" not in report
    full = json.loads((comparison.run / "table.json").read_text())
    assert set(full["variants"]) == {"a", "b", "rendered"}
    assert full["variants"]["a"]["figures"]["ELO"]["n"] == 1
    assert full["variants"]["rendered"]["figures"]["ELO"] is None
    assert full["variants"]["a"]["figures"]["error at returns"]["n"] == 2
    assert full["variants"]["a"]["figures"]["ψ left after 16"]["n"] == 1
    assert "error at returns" not in full["variants"]["b"]["figures"]  # F0 has no memory
    assert full["plan"] == {"seed": 1}


def test_weights_of_another_version_are_named(tmp_path: Path) -> None:
    torch.save({"config": {}, "state": {}}, tmp_path / DONE)
    with pytest.raises(ModelFilesError, match=r"dit\.final\.pt has no weights of this version"):
        load_dit(tmp_path / DONE)
