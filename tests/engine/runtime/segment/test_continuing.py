"""A video's last frames as history: what a state holds after them, for a model of every kind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.backends.fake import FAKE_SPEC, FakeBackend
from engine.backends.fake_pyramid import PYRAMID_SPEC, FakePyramid
from engine.errors import InvalidInput
from engine.runtime.segment.continuing import after_video, most_frames, snapshot_of
from engine.runtime.segment.generator import Generator, Job
from engine.runtime.state import snapshot
from engine.types import ByteArray


def clip(count: int) -> ByteArray:
    """A blue first frame, then frames that get redder."""
    video = np.zeros((1 + count, 3, 96, 160), np.uint8)
    video[0, 2] = 250
    video[1:, 0] = np.arange(count, dtype=np.uint8)[:, None, None]
    return video


def test_the_last_frames_become_the_history_and_the_first_the_anchor() -> None:
    generator = Generator(FakePyramid())
    assert most_frames(generator.spec) == 99
    *_, state = after_video(generator, clip(120), "red", 1)
    assert all(latent.any() for latent in state.latents)
    reds = [255 * latent[0].mean() for latent in state.latents]  # with a start's noise on it
    assert reds[-1] > reds[9] > reds[0]
    assert abs(reds[-1] / 0.88 - 119) < 12  # the first frame of the last latent is the clip's last
    assert state.anchor[0, 2].mean() > 0.8
    assert (state.context, state.from_image, state.index) == (1, 1, 0)


def test_the_next_segment_is_a_scenes_first() -> None:
    backend = FakePyramid()
    generator = Generator(backend)
    *_, state = after_video(generator, clip(33), "red", 1)
    jobs = [Job(state, 0)]
    generator.finish(jobs, generator.denoise(jobs))
    assert backend.calls["denoise_0"] == 4
    assert backend.calls["encode_video"] == 1
    assert sum(latent.any() for latent in state.latents) == 18


def test_a_model_that_encodes_pictures_only_takes_one_per_latent_and_keeps_memory_and_state() -> None:
    backend = FakeBackend()
    generator = Generator(backend)
    *_, state = after_video(generator, clip(20), "red", 1)
    assert backend.calls["encode_image"] == 1 + 2 * 2  # the anchor, and two latents of two whole segments
    assert (state.index, state.remembered) == (2, 2)
    assert state.psi.any()
    assert round(255 * float(state.decoder[0].mean())) == 19  # the last frame


def test_it_is_the_same_every_time_and_a_snapshot_holds_it() -> None:
    generator = Generator(FakePyramid())
    data = [snapshot_of(generator, clip(70), "red", 5, "arithmetic") for _ in range(2)]
    saved, again = (snapshot.load(generator.spec, "arithmetic", d) for d in data)
    for name, array in saved.state.arrays().items():
        np.testing.assert_array_equal(array, again.state.arrays()[name])
    assert saved.prompts[0].text == "red"
    assert saved.state.seed == 5


@pytest.mark.parametrize("video", [clip(32), clip(33)[:, :, :90], clip(33).astype(np.float32)])
def test_a_clip_that_is_too_short_or_of_another_size_is_refused(video: ByteArray) -> None:
    with pytest.raises(InvalidInput, match="a first frame and at least 33 more"):
        list(after_video(Generator(FakePyramid()), video, "red", 1))


def test_both_kinds_of_fakes_are_of_the_kind_that_the_test_says() -> None:
    assert PYRAMID_SPEC.encodes_video
    assert replace(FAKE_SPEC, encodes_video=False) == FAKE_SPEC
