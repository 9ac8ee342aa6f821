"""What a session remembers: constant size, copied, saved and loaded."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from engine.backends.fake import FAKE_SPEC, FakeBackend
from engine.errors import InvalidInput
from engine.runtime.generator import Generator, Job
from engine.runtime.noise import CONTEXT, gaussian
from engine.runtime.state import SessionState
from engine.types import ByteArray
from tests.fakes import TINY_SPEC


def advance(generator: Generator, state: SessionState, segments: int = 1) -> ByteArray:
    made = None
    for _ in range(segments):
        latents = generator.denoise([Job(state, 2)])
        made = generator.finish([Job(state, 2)], latents)[0].frames
    assert made is not None
    return made


def started(prompt: str = "a red fox", seed: int = 5) -> tuple[Generator, SessionState]:
    generator, state = Generator(FakeBackend(TINY_SPEC)), SessionState.zeros(TINY_SPEC)
    generator.start_scene(state, prompt, seed=seed, scene=0)
    return generator, state


def same(a: SessionState, b: SessionState) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(SessionState))


def test_the_state_has_the_same_size_after_thousands_of_segments() -> None:
    generator, state = started()
    before, arrays = state.nbytes, [id(getattr(state, f.name)) for f in fields(state)[:9]]
    saved = len(state.save(TINY_SPEC))
    advance(generator, state, 2000)
    assert state.index == 2000
    assert state.nbytes == before
    assert [id(getattr(state, f.name)) for f in fields(state)[:9]] == arrays  # nothing was reallocated
    assert abs(len(state.save(TINY_SPEC)) - saved) < 16
    assert np.isfinite(state.psi).all()
    assert np.isfinite(state.history).all()


def test_a_copy_goes_its_own_way() -> None:
    generator, state = started()
    advance(generator, state, 3)
    fork = state.copy()
    assert same(fork, state)
    advance(generator, fork)
    assert not same(fork, state)
    advance(generator, state)
    assert same(fork, state)


def test_a_saved_state_goes_on_bit_for_bit() -> None:
    generator, state = started()
    advance(generator, state, 11)
    loaded, about = SessionState.load(TINY_SPEC, state.save(TINY_SPEC, {"prompt": "a red fox"}))
    assert about["prompt"] == "a red fox"
    assert same(loaded, state)
    np.testing.assert_array_equal(advance(generator, loaded, 2), advance(generator, state, 2))
    assert same(loaded, state)


def test_what_is_not_a_state_of_this_model_is_refused_by_name() -> None:
    _, state = started()
    good = state.save(TINY_SPEC)
    state.remembered = TINY_SPEC.memory_ring + 1
    for data, match in (
        (b"", "safetensors"),
        (b"\xff" * 64, "safetensors"),
        (good[:-5], "safetensors"),
        (good + bytes(2**17), "too many"),
        (SessionState.zeros(FAKE_SPEC).save(FAKE_SPEC), "too many"),
        (state.save(replace(TINY_SPEC, name="other")), "must be .* 'tiny'"),
        (state.save(TINY_SPEC), "remembered"),
        (replace(state, psi=state.psi[:1]).save(TINY_SPEC), "'psi' must be"),
        (replace(state, psi=state.psi.astype(np.float16)).save(TINY_SPEC), "'psi' must be"),
    ):
        with pytest.raises(InvalidInput, match=match):
            SessionState.load(TINY_SPEC, data)


def test_noise_is_a_function_of_seed_scene_and_segment_alone() -> None:
    shape = (2, 16, 2, 2)
    one = gaussian(7, 1, 3, shape)
    np.random.default_rng(0).random(5)  # a global generator's position does not matter
    np.testing.assert_array_equal(one, gaussian(7, 1, 3, shape))
    others = [gaussian(*key, shape) for key in ((8, 1, 3), (7, 2, 3), (7, 1, 4))]
    others.append(gaussian(7, 1, 3, shape, CONTEXT))
    assert not any(np.array_equal(one, other) for other in others)
    many = gaussian(2**32 - 1, 2**30, 2**39, (100_000,))
    assert abs(float(many.mean())) < 0.02
    assert abs(float(many.std()) - 1) < 0.02
