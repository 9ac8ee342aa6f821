"""Named landmarks: counted where they should stand, and the whole figure on a small model."""

from __future__ import annotations

import torch

from engine.backends.fake import FakeBackend
from engine.evaluation.bench import Studio
from engine.evaluation.figure import Scale
from engine.evaluation.figures import named
from engine.evaluation.figures.named import Named, camera_px, found, ratio
from engine.evaluation.figures.sightings import Found
from engine.evaluation.instruments.landmark_reader import LandmarkReader
from engine.model.wander.autoencoder import Autoencoder, AutoencoderConfig
from engine.variants.played import played

SEEN = [Found(120.0, 2, 5, 9), Found(230.0, 3, 0, 9), Found(420.0, 3, 5, 9)]


def test_a_landmark_counts_between_two_places_only() -> None:
    assert found(SEEN, (100, 300), 3, 5) == {"kind": True, "colour": True, "kind and colour": False}
    assert found(SEEN, (100, 300), 2, 5)["kind and colour"]
    assert not any(found(SEEN, (300, 400), 2, 5).values())


def test_the_camera_walks_two_pixels_a_frame() -> None:
    assert camera_px(2, "right").tolist() == [2, 4, 6, 8, 10, 12, 14, 16]
    assert camera_px(1, "left").tolist() == [-2, -4, -6, -8]


def test_a_ratio_weighs_seeds_by_what_the_world_has() -> None:
    whole = ratio([(1, 2), (3, 2)])
    assert whole is not None
    assert whole.value == 1.0
    assert ratio([(0, 0)]) is None


def test_the_figure_plays_reads_and_sums_up(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(named, "WALK", 6)
    torch.manual_seed(0)
    autoencoder = Autoencoder(
        AutoencoderConfig(fine=8, coarse=12, decoder_fine=8, decoder_coarse=12, decoder_blocks=1)
    ).eval()
    model = played("fake", FakeBackend(), autoencoder)
    studio = Studio(model, None, {}, LandmarkReader().eval(), {})  # type: ignore[arg-type]
    figure = Named()
    rows = {name: job().row for name, job in figure.jobs(studio, Scale(n=2)).items()}
    assert list(rows) == ["walk-000", "walk-001"]
    assert all(set(r["named"]) == {"kind", "colour", "kind and colour"} for r in rows.values())
    tables = figure.summarise(rows, studio).tables
    assert [label for label, _ in tables[0].rows] == ["kind", "colour", "kind and colour"]
    assert "sharpness" in [label for label, _ in tables[1].rows]
