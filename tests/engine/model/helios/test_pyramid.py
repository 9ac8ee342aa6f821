"""The pyramid sampler against diffusers' pipeline, segment by segment, and its noise."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import InvalidInput
from engine.model.helios.config import HeliosConfig, PyramidConfig
from engine.model.helios.pyramid import Pyramid, block_noise, halved, plan
from engine.model.helios.schedule import STAGE, stage_steps
from engine.types import FloatArray
from tests.rigs.models.helios import SMALL, at, make_pair, scheduler_of_the_checkpoint
from tests.rigs.models.helios_pipeline import their_video


def noise_of(seed: int, segment: int, stream: int, shape: tuple[int, ...]) -> FloatArray:
    return np.random.default_rng([seed, segment, stream]).standard_normal(shape, np.float32)


def whole(c: HeliosConfig) -> tuple[int, int, int, int]:
    return c.segment, c.channels, c.latent_height, c.latent_width


def our_video(
    ours: Any, c: HeliosConfig, p: PyramidConfig, text: torch.Tensor, row: int, segments: int
) -> FloatArray:
    """Latents (segments W, C, h, w): the history starts empty, the first latent becomes the anchor."""
    frame = (c.channels, c.latent_height, c.latent_width)
    history, anchor = np.zeros((sum(c.history), *frame), np.float32), np.zeros((1, *frame), np.float32)
    video: list[FloatArray] = []
    for segment in range(segments):
        pyramid = Pyramid(whole(c), p, partial(noise_of, row, segment), first=segment == 0)
        while pyramid.calls_left:
            v = ours(
                torch.from_numpy(pyramid.x)[None],
                timestep=torch.from_numpy(pyramid.told()["timestep"])[None],
                projected=ours.project(text[row : row + 1]),
                history=torch.from_numpy(history)[None],
                anchor=torch.from_numpy(anchor)[None],
            )
            pyramid.advance(v[0].numpy())
        if segment == 0:
            anchor = pyramid.x[:1]
        video.append(pyramid.x)
        history = np.concatenate([history, pyramid.x])[-len(history) :]
    return np.concatenate(video)


@pytest.mark.parametrize(
    ("config", "steps", "first_factor"),
    [(SMALL, (1, 1, 1), 1), (SMALL, (2, 2, 2), 2), (at(64, 128, segment=9), (2, 2, 1), 2)],
)
@torch.inference_mode()
def test_three_segments_are_diffusers_three_segments(
    monkeypatch: pytest.MonkeyPatch, config: HeliosConfig, steps: tuple[int, int, int], first_factor: int
) -> None:
    p = PyramidConfig(steps=steps, first_factor=first_factor)
    ours, theirs = make_pair(config)
    text = torch.randn(2, config.text_tokens, config.text_dim, generator=torch.Generator().manual_seed(3))
    wanted = their_video(monkeypatch, theirs, config, p, text, noise_of, segments=3)
    assert wanted.shape[1] == 3 * config.segment
    for row in range(2):
        made = our_video(ours, config, p, text, row, segments=3)
        assert np.abs(made - wanted[row].numpy()).max() <= 1e-4


def test_the_stages_are_the_public_ones() -> None:
    found = [(s.longest, s.shortest, s.keep, s.renoise) for s in STAGE]
    assert found == [
        pytest.approx((999.0, 743.512, 1.0, 0.0), abs=1e-3),
        pytest.approx((743.256, 385.972, 0.600120, 0.692612), abs=1e-3),
        pytest.approx((385.614, 1.384, 0.749813, 0.433337), abs=1e-3),
    ]


@pytest.fixture(scope="module")
def scheduler() -> Any:
    return scheduler_of_the_checkpoint()


@pytest.mark.parametrize("tokens", [540, 2160, 8640])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 10])
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_steps_are_their_schedulers(scheduler: Any, stage: int, count: int, tokens: int) -> None:
    mu = 0.5 + 0.65 / 3840 * (tokens - 256)
    scheduler.set_timesteps(count, stage, mu=mu)
    steps = stage_steps(stage, count, tokens)
    assert [s.timestep for s in steps] == [int(t) for t in scheduler.timesteps]
    assert [*(s.sigma for s in steps), 0.0] == pytest.approx(scheduler.sigmas.tolist(), abs=1e-9)


@pytest.mark.parametrize(
    ("shift_by", "timesteps"),
    [
        ("previous", [[998, 833], [742, 512], [385, 174]]),
        ("own", [[998, 833], [742, 547], [385, 253]]),
    ],
)
def test_both_readings_of_the_timestep_shift_are_there(shift_by: Any, timesteps: list[list[int]]) -> None:
    """At 384 x 640; the sources disagree, and with two calls per stage it is a different schedule."""
    found = plan(whole(HeliosConfig()), PyramidConfig(shift_by=shift_by), first=False)
    assert [[s.timestep for s in stage] for stage in found] == timesteps


def test_the_first_segment_takes_twice_as_many_calls() -> None:
    first = plan(whole(HeliosConfig()), PyramidConfig(), first=True)
    assert [len(stage) for stage in first] == [4, 4, 4]
    assert [[s.timestep for s in stage] for stage in first] == [
        [998, 902, 833, 783],
        [742, 607, 512, 441],
        [385, 274, 174, 84],
    ]


def test_halved_noise_is_white() -> None:
    small = halved(noise_of(0, 0, 0, (64, 4, 64, 64)))
    assert small.shape == (64, 4, 32, 32)
    assert small.std() == pytest.approx(1, abs=0.01)
    assert np.mean(small[..., 1:] * small[..., :-1]) == pytest.approx(0, abs=0.01)


def test_block_noise_has_the_public_covariance() -> None:
    """(1 + γ) I − γ 1 1ᵀ over the four cells of a block, nothing between blocks; a block sums to zero."""
    n = block_noise(noise_of(0, 0, 1, (64, 4, 64, 64)))
    assert np.mean(n * n) == pytest.approx(1, abs=0.01)
    assert np.mean(n[..., 0::2] * n[..., 1::2]) == pytest.approx(-1 / 3, abs=0.01)
    assert np.mean(n[..., 1:-1:2] * n[..., 2::2]) == pytest.approx(0, abs=0.01)
    assert np.abs(halved(n)).max() <= 1e-5


def test_a_stage_without_calls_is_refused() -> None:
    with pytest.raises(InvalidInput, match="1 or more"):
        PyramidConfig(steps=(2, 0, 2))
