"""Channels are held at the anchor's statistics, until the prompt changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.backends.fake_pyramid import PYRAMID_SPEC, FakePyramid
from engine.runtime.segment.anti_drift import held
from engine.runtime.segment.generator import Generator, Job
from engine.runtime.state.state import SessionState
from engine.types import FloatArray


def drifted(seed: int = 0) -> tuple[FloatArray, FloatArray]:
    random = np.random.default_rng(seed)
    anchor = random.standard_normal((1, 4, 16, 16), np.float32)
    latents = 2 * random.standard_normal((9, 4, 16, 16), np.float32) + 1
    anchor[:, 3], latents[:, 3] = 0, 5  # a flat channel
    return latents, anchor


@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_means_and_deviations_move_that_share_of_the_way(strength: float) -> None:
    latents, anchor = drifted()
    out = held(latents, anchor, strength)
    for c in range(3):
        for measure in (np.mean, np.std):
            here, there, now = (measure(x[:, c]) for x in (latents, anchor, out))
            assert now == pytest.approx(here + strength * (there - here), abs=1e-4)
    assert np.allclose(out[:, 3], 5 - 5 * strength)
    assert out.dtype == np.float32


def test_it_acts_in_a_scene_with_an_anchor_until_the_prompt_changes() -> None:
    on, off = FakePyramid(), FakePyramid()
    on.spec = replace(PYRAMID_SPEC, anti_drift=1.0)
    made = []
    for backend in (on, off):
        generator = Generator(backend)
        state = SessionState.zeros(generator.spec)
        generator.conditioner.start_scene(state, "red", seed=1, scene=0)
        segments = []
        for n in range(3):
            if n == 2:
                generator.conditioner.recondition(state, "blue")
            jobs = [Job(state, 0)]
            segments.append(generator.denoise(jobs)[0])
            generator.finish(jobs, segments[-1][None])
        made.append((segments, state.anchor))
    (with_it, anchor), (without, _) = made
    np.testing.assert_array_equal(with_it[0], without[0])  # the anchor comes from it
    np.testing.assert_allclose(with_it[1].mean((0, 2, 3)), anchor.mean((0, 2, 3)), atol=1e-5)
    assert not np.allclose(without[1].mean((0, 2, 3)), anchor.mean((0, 2, 3)), atol=1e-5)
    assert not np.allclose(with_it[2].mean((0, 2, 3)), anchor.mean((0, 2, 3)), atol=1e-2)
