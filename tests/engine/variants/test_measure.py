"""Variants are measured one by one, once, and the table holds whatever there is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from engine.errors import ModelFilesError
from engine.evaluation import bench as studio
from engine.evaluation.instruments import landmark_reader as reader
from engine.evaluation.instruments import probe
from engine.model.config import ModelConfig
from engine.model.wander.autoencoder import Autoencoder, AutoencoderConfig
from engine.model.wander.transformer import WanderDiT
from engine.training.data.latents import Pool
from engine.training.learner import save_weights
from engine.variants import measure as comparing
from engine.variants.measure import Bench, load_dit, measure_truth, measure_variant, write_table
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
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Two models that nobody trained, measured by instruments that nobody trained."""
    torch.manual_seed(0)
    small = Autoencoder(AutoencoderConfig(fine=8, coarse=12, decoder_fine=8, decoder_coarse=12))
    save_weights(tmp_path / "autoencoder.final.pt", small, small.config)
    for network, file in ((probe.Probe(), probe.FILE), (reader.LandmarkReader(), reader.FILE)):
        torch.save({"state": network.state_dict(), "accuracy": {"place": 0.1}}, tmp_path / file)
    for name in "ab":
        (tmp_path / name).mkdir()
        save_weights(tmp_path / name / DONE, WanderDiT(SMALL), SMALL)
    monkeypatch.setattr(studio, "REFERENCE_FRAMES", 4)
    monkeypatch.setattr(comparing, "RETURNS", 2)
    return Bench(tmp_path, tmp_path, small.eval(), held_out, seeds=1, seconds=5.0, journey_s=0)


@pytest.mark.slow
def test_the_table_grows_with_what_is_measured_and_nothing_is_measured_twice(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    measure_truth(bench)
    measure_variant(bench, VARIANTS[0])
    told = write_table(bench, VARIANTS, {"seed": 1}).read_text()
    assert "variant A" in told
    assert "variant B" not in told
    measure_variant(bench, VARIANTS[1])
    rows = (bench.run / "a" / "evaluation" / "walk" / "rows.jsonl").read_bytes()
    measure_variant(bench, VARIANTS[0])
    assert (bench.run / "a" / "evaluation" / "walk" / "rows.jsonl").read_bytes() == rows
    assert (bench.run / "a" / "evaluation" / "walk.png").is_file()
    told = write_table(bench, VARIANTS, {"seed": 1}).read_text()
    assert "| paper: MemoryPack |" in told
    assert "| here: variant B |" in told
    assert "never trained" not in told
    full = json.loads((bench.run / "table.json").read_text())
    assert set(full["variants"]) == {"a", "b", "rendered"}
    assert full["variants"]["a"]["figures"]["ELO"]["n"] == 1
    assert full["variants"]["rendered"]["figures"]["ELO"] is None
    assert full["variants"]["a"]["figures"]["error at returns"]["n"] == 2
    assert full["variants"]["a"]["figures"]["ψ left after 16"]["n"] == 1
    assert "error at returns" not in full["variants"]["b"]["figures"]  # F0 has no memory to ask
    assert full["plan"] == {"seed": 1}


def test_weights_of_another_version_are_named(tmp_path: Path) -> None:
    torch.save({"config": {}, "state": {}}, tmp_path / DONE)
    with pytest.raises(ModelFilesError, match=r"dit\.final\.pt holds no weights of this version"):
        load_dit(tmp_path / DONE)
