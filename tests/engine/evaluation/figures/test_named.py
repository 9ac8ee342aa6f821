"""Named landmarks: counted where they are expected, and the whole figure on a small model."""

from __future__ import annotations

import torch

from engine.backends.fake import FakeBackend
from engine.evaluation.bench import Bench
from engine.evaluation.figure import Scale
from engine.evaluation.figures.named import Named, appears, camera_px, ratio
from engine.evaluation.figures.sightings import Sighting
from engine.evaluation.instruments.landmark_reader import LandmarkReader
from engine.model.wander.autoencoder import Autoencoder, AutoencoderConfig
from engine.variants.played import played

SEEN = [Sighting(120.0, 2, 5, 9), Sighting(230.0, 3, 0, 9), Sighting(420.0, 3, 5, 9)]


def test_a_landmark_counts_between_two_places_only() -> None:
    assert appears(SEEN, (100, 300), 3, 5) == {"kind": True, "colour": True, "kind and colour": False}
    assert appears(SEEN, (100, 300), 2, 5)["kind and colour"]
    assert not any(appears(SEEN, (300, 400), 2, 5).values())


def test_the_camera_walks_two_pixels_a_frame() -> None:
    assert camera_px(2, "right").tolist() == [2, 4, 6, 8, 10, 12, 14, 16]
    assert camera_px(1, "left").tolist() == [-2, -4, -6, -8]


def test_a_ratio_weights_seeds_by_the_landmarks_in_their_world() -> None:
    whole = ratio([(1, 2), (3, 2)])
    assert whole is not None
    assert whole.value == 1.0
    assert ratio([(0, 0)]) is None


def test_the_figure_plays_reads_and_summarises() -> None:
    torch.manual_seed(0)
    autoencoder = Autoencoder(
        AutoencoderConfig(fine=8, coarse=12, decoder_fine=8, decoder_coarse=12, decoder_blocks=1)
    ).eval()
    model = played("fake", FakeBackend(), autoencoder)
    bench = Bench(model, None, {}, LandmarkReader().eval(), {})  # type: ignore[arg-type]
    figure = Named(segments=6)
    rows = {name: job().row for name, job in figure.jobs(bench, Scale(n=2)).items()}
    assert list(rows) == ["walk-000", "walk-001"]
    assert all(set(r["named"]) == {"kind", "colour", "kind and colour"} for r in rows.values())
    tables = figure.summarise(rows, bench).tables
    assert [label for label, _ in tables[0].rows] == ["kind", "colour", "kind and colour"]
    assert "sharpness" in [label for label, _ in tables[1].rows]
