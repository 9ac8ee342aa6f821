"""The instruments: their training data has the world's labels, and a run's files can be loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.errors import ModelFilesError
from engine.evaluation.instruments.examples import CELL_PX, sharp, soft
from engine.evaluation.instruments.landmark_reader import LandmarkReader, load_reader, reader_accuracy
from engine.evaluation.instruments.probe import FILE, POOLED, Probe, load_probe, train_probe
from engine.model.wander.autoencoder import Autoencoder, AutoencoderConfig
from engine.world.attributes import FIELDS, LANDMARKS, VALUES

TINY = AutoencoderConfig(fine=8, coarse=8, decoder_fine=8, decoder_coarse=8, decoder_blocks=1)


def tiny() -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(TINY).eval().requires_grad_(False)


def test_examples_carry_the_worlds_own_labels() -> None:
    made = sharp(24, torch.Generator().manual_seed(1))
    assert made.frames.shape == (24, 3, 96, 160)
    assert made.frames.dtype == torch.uint8
    assert int(made.present.sum()) >= 24  # a landmark and a half on every screen
    assert (made.offset[made.present].abs() <= CELL_PX / 2).all()
    assert made.kind[made.present].max() < len(LANDMARKS)
    for i, field in enumerate(FIELDS):
        assert 0 <= int(made.attributes[:, i].min()) <= int(made.attributes[:, i].max()) < len(VALUES[field])


def test_the_cells_of_landmarks_have_more_contrast() -> None:
    """Cells that contain a landmark have stronger edges than the others."""
    made = sharp(64, torch.Generator().manual_seed(2))
    band = made.frames[:, :, 40:70].float().mean((1, 2))  # (N, W)
    rough = (band[:, 1:] - band[:, :-1]).abs()
    cells = torch.nn.functional.avg_pool1d(rough[:, None, :152], 8)[:, 0]
    there = made.present[:, :19]
    assert cells[there].mean() > 1.2 * cells[~there].mean()


def test_soft_examples_are_several_frames_of_each_clip() -> None:
    made = soft(4, tiny(), torch.Generator().manual_seed(1))
    assert made.frames.shape == (8, 3, 96, 160)
    assert torch.equal(made.attributes[0::2], made.attributes[1::2])
    assert not torch.equal(made.frames[0], made.frames[1])


def test_the_newest_examples_stay() -> None:
    generator = torch.Generator().manual_seed(3)
    old, new = sharp(6, generator), sharp(2, generator)
    kept = old.newest(5, new)
    assert len(kept) == 5
    assert torch.equal(kept.frames[:2], new.frames)
    assert torch.equal(kept.frames[2:], old.frames[:3])


def test_the_probe_gives_logits_and_features() -> None:
    probe = Probe().eval()
    frames = torch.randint(0, 255, (3, 3, 96, 160), dtype=torch.uint8)
    fields, pooled, grid = probe.look(frames)
    assert [f.shape[1] for f in fields] == [len(VALUES[f]) for f in FIELDS]
    assert pooled.shape == (3, POOLED)
    assert grid.shape == (3, 128, 6, 10)
    assert torch.equal(probe.read(frames), torch.stack([f.argmax(-1) for f in fields], -1))


def test_a_reader_that_sees_nothing_has_no_hits_and_no_false_alarms() -> None:
    reader = LandmarkReader().eval()
    last = reader.along[-1]
    assert isinstance(last, torch.nn.Conv1d)
    assert last.bias is not None
    last.bias.data[0] = -100.0
    found = reader_accuracy(reader, sharp(8, torch.Generator().manual_seed(4)))
    assert found["found"] == 0.0
    assert found["false alarms per frame"] == 0.0


@pytest.mark.slow
def test_training_saves_both_instruments_with_their_accuracy(tmp_path: Path) -> None:
    """The same command again does not train further."""
    train_probe(tmp_path, tiny(), minutes=0.002, held_out_frames=8)
    probe, accuracy = load_probe(tmp_path)
    reader, reading = load_reader(tmp_path)
    assert set(accuracy) == {*FIELDS, *(f"{f} clean" for f in FIELDS)}
    assert {"found", "kind and colour", "kind and colour clean"} <= set(reading)
    assert not any(p.requires_grad for p in [*probe.parameters(), *reader.parameters()])
    before = probe.state_dict()
    again = train_probe(tmp_path, tiny(), minutes=0.002, held_out_frames=8)
    assert all(torch.equal(v, before[k]) for k, v in again.state_dict().items())


def test_files_of_another_version_are_refused_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_probe(tmp_path)
    torch.save({"state": {"body.weight": torch.zeros(1)}, "accuracy": {}}, tmp_path / FILE)
    with pytest.raises(ModelFilesError, match="psistream train probe"):
        load_probe(tmp_path)
