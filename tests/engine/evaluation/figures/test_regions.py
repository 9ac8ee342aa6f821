"""Error by region: which columns belong where, and a session's state under a true history."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.backends.base import Arrays
from engine.backends.fake import FakeBackend
from engine.errors import ModelFilesError
from engine.evaluation.bench import Bench, Model
from engine.evaluation.figure import Scale
from engine.evaluation.figures.regions import (
    NOISES,
    REGIONS,
    Regions,
    following,
    measured,
    moments,
    pooled,
    regions,
    variance,
)
from engine.model.wander.autoencoder import Autoencoder, AutoencoderConfig
from engine.runtime.offline import segments
from engine.script import Entry
from engine.types import Action
from engine.variants.played import played
from engine.world.attributes import ACTIONS

SHAPE = (2, 16, 12, 20)
STANDING, KNOWN, BESIDE, NEW = REGIONS


class Listening(FakeBackend):
    """Remembers what `denoise` was told."""

    def run(self, role: str, inputs: Arrays) -> dict[str, np.ndarray]:
        if role == "denoise":
            self.told = {name: np.array(value) for name, value in inputs.items()}
        return super().run(role, inputs)


def model(backend: FakeBackend | None = None) -> Model:
    torch.manual_seed(0)
    small = Autoencoder(
        AutoencoderConfig(fine=8, coarse=12, decoder_fine=8, decoder_coarse=12, decoder_blocks=1)
    ).eval()
    return played("fake", backend or FakeBackend(), small)


def test_a_walk_brings_in_one_column_per_latent_frame() -> None:
    found = regions(SHAPE, "right")
    assert [found[NEW][f].nonzero()[:, 0].tolist() for f in (0, 1)] == [[19], [18, 19]]
    assert found[BESIDE][0].nonzero()[:, 0].tolist() == [5, 6, 7, 8, 9]
    assert torch.stack(list(found.values())).sum(0).eq(1).all()
    assert regions(SHAPE, "idle")[STANDING].all()


def test_errors_stay_in_their_region() -> None:
    after = torch.zeros(SHAPE)
    made = after.clone()
    made[1, ..., 18:] = 2.0
    found = measured(made, after, "right")["errors"]
    assert found == {KNOWN: 0.0, BESIDE: 0.0, NEW: pytest.approx(4.0 * 2 / 3)}


def test_variance_is_of_all_seeds_together() -> None:
    g = torch.Generator().manual_seed(1)
    truth = [torch.randn(500, generator=g) + k for k in range(4)]
    parts = [moments(x) for x in truth]
    assert pooled(parts) == pytest.approx(float(torch.cat(truth).var(correction=0)), rel=1e-5)
    halved = [{"sample": moments(x / 2), "truth": moments(x)} for x in truth]
    found = variance(halved)
    assert found is not None
    assert found.value == pytest.approx(0.25, rel=1e-5)


def test_a_state_under_a_history_equals_that_of_the_session_that_made_it() -> None:
    """What the model is told about its own past is what the session tells it."""
    session, fed = Listening(), Listening()
    prompt, seed, count = "a red fox", 3, 4
    script = [Entry(0.0, Action("right"))]
    with closing(segments(session, prompt=prompt, seed=seed, script=script)) as video:
        made = [next(video) for _ in range(count + 1)]
    assert all(m.frames is not None for m in made)
    told = session.told
    history = torch.from_numpy(told["history"][0])
    past = history[-count * session.spec.segment :]
    actions = torch.full(((count + 1) * session.spec.segment,), ACTIONS.index("right"))
    follow = model(fed).follow
    assert follow is not None
    follow(
        prompt,
        seed=seed,
        past=past,
        actions=actions,
        landmarks=torch.from_numpy(told["landmarks"][0]),
        noise=None,
    )
    for name, value in told.items():
        if name not in ("x", "t", "d"):
            np.testing.assert_allclose(fed.told[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


def test_the_worlds_landmarks_are_told_in_place_of_the_seeds() -> None:
    backend = Listening()
    following(model(backend), 2, "right")
    standing = torch.from_numpy(backend.told["landmarks"][0])
    from engine.world.drawing.landmarks import plan

    camera = 2.0 * torch.arange(1.0, 129.0)[None]
    true = {tuple(row) for row in plan(camera, torch.tensor([2]), 8)[0].tolist()}
    near = [tuple(row) for row in standing.tolist() if 100 < row[0] < 400]
    assert near
    assert set(near) <= true


def test_a_model_that_cannot_continue_a_past_is_named() -> None:
    with pytest.raises(ModelFilesError, match="fake cannot continue"):
        following(replace(model(), follow=None), 0, "idle")


def test_the_figure_measures_and_summarises() -> None:
    figure, bench = Regions(), Bench(model(), None, {})  # type: ignore[arg-type]
    rows = {name: job().row for name, job in figure.jobs(bench, Scale(n=2)).items()}
    errors, spread = figure.summarise(rows, bench).tables
    assert [label for label, _ in errors.rows] == list(REGIONS)
    assert tuple(errors.columns) == tuple(NOISES)
    assert spread.rows[0][1][0] is not None
