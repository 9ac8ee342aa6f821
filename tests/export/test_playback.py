"""From the public format to a session: a converted checkpoint plays the same as FramePack's own loop with the
same weights, prompt, picture and noise."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from engine.backends.base import Backend
from engine.backends.registry import load_backend
from engine.companions.unipc import UniPC
from engine.model.config import HunyuanConfig
from engine.runtime.segment.generator import Generator, Job
from engine.runtime.segment.noise import gaussian
from engine.runtime.state.state import SessionState
from engine.types import FloatArray
from export.framepack.convert import FramePackOptions, convert
from tests.rigs.models import framepack
from tests.rigs.models.full_size import write_tiny_companions

HUNYUAN = HunyuanConfig(text_dim=32, pooled_dim=16, image_dim=24)  # as the tiny companions
C = framepack.at_size(replace(framepack.CONFIG, hunyuan=HUNYUAN), 8, 12)


@pytest.fixture(scope="module")
def reference() -> Any:
    return framepack.theirs(C)


@pytest.fixture(scope="module")
def backend(reference: Any, tmp_path_factory: pytest.TempPathFactory) -> Backend:
    """As docs/full-size.md says: companions first, then the checkpoint converted into the same folder."""
    public = tmp_path_factory.mktemp("public")
    reference.save_pretrained(public, max_shard_size="300KB")
    folder = write_tiny_companions(tmp_path_factory.mktemp("weights"))
    convert("framepack-f1", public, folder, FramePackOptions(64, 96, C.segment, (4, 4)), lambda _: None)
    return load_backend("onnxruntime", "framepack-f1", folder)


def test_it_is_played_as_framepack_plays_it(backend: Backend) -> None:
    s = backend.spec
    assert (s.fps, s.steps, s.first_steps, s.sampler, s.shift) == (30, 25, 25, "unipc", 7)
    assert (s.height, s.width, s.segment, s.history) == (64, 96, C.segment, (16, 2, 1))


def in_framepacks_loop(reference: Any, backend: Backend, state: SessionState) -> FloatArray:
    """One segment by diffusers' transformer, called by its own conventions, with our sampler's steps."""
    c = replace(C, memory=replace(C.memory, text_tokens=backend.spec.text_tokens))
    shape = (c.segment, c.channels, c.latent_height, c.latent_width)
    sampler = UniPC(backend.spec.steps, backend.spec.shift)
    given = {
        name: torch.tensor(getattr(state, name))[None]
        for name in ("text", "text_mask", "pooled", "image", "history", "anchor")
    }
    x = gaussian(state.seed, state.scene, state.index, shape)[None]
    for k, t in enumerate(sampler.times[:-1]):
        now = {**given, "x": torch.tensor(x), "t": torch.tensor([t])}
        with torch.no_grad():
            velocity = framepack.their_velocity(reference, c, now, framepack.f1_indices(c))
        x = sampler.step(k, x, velocity.numpy())
    return x


def test_three_segments_of_a_session_are_framepacks(reference: Any, backend: Backend) -> None:
    """Each starts from the session's state, which has ψ in addition. With masked ψ the difference is rounding
    over 25 steps; with ψ it is the effect of the graft's key bias."""
    reference = copy.deepcopy(reference)
    reference.image_projection = torch.nn.Identity()  # a state holds image tokens that are projected already
    player = Generator(backend)
    state = SessionState.zeros(backend.spec)
    picture = np.random.default_rng(1).integers(0, 256, (3, 64, 96), dtype=np.uint8)
    player.conditioner.start_scene(state, "a red fox", seed=1, scene=0, image=picture)
    for _ in range(3):
        expected = in_framepacks_loop(reference, backend, state)
        blind = state.copy()
        blind.psi_mask = np.zeros_like(blind.psi_mask)
        masked, seen = (player.denoise([Job(s, 0)]) for s in (blind, state))
        assert masked is not None
        assert seen is not None
        assert 0.5 < float(expected.std()) < 50
        scale = float(np.abs(expected).max())
        assert float(np.abs(masked - expected).max()) < 1e-5 * scale
        assert float(np.abs(seen - expected).max()) < 1e-2 * scale
        assert float(np.sqrt(np.square(seen - expected).mean())) < 1e-3 * float(expected.std())
        player.finish([Job(state, 0)], seen)
