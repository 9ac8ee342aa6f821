"""What a session remembers: constant size, copied, saved as a file and loaded."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest

from engine.backends.fake import FAKE_SPEC, FakeBackend
from engine.errors import InvalidInput
from engine.runtime.segment.generator import Generator, Job
from engine.runtime.segment.noise import CONTEXT, gaussian
from engine.runtime.state.snapshot import Saved, load, save
from engine.runtime.state.state import SessionState
from engine.types import ByteArray, Weighted
from tests.rigs.engine.fakes import TINY_SPEC


def advance(generator: Generator, state: SessionState, segments: int = 1) -> ByteArray:
    made = None
    for _ in range(segments):
        latents = generator.denoise([Job(state, 2)])
        made = generator.finish([Job(state, 2)], latents)[0].frames
    assert made is not None
    return made


def started(prompt: str = "a red fox", seed: int = 5) -> tuple[Generator, SessionState]:
    generator, state = Generator(FakeBackend(TINY_SPEC)), SessionState.zeros(TINY_SPEC)
    generator.conditioner.start_scene(state, prompt, seed=seed, scene=0)
    return generator, state


FOX = (Weighted("a red fox"),)
WEIGHTS = "0123"


def saved(state: SessionState, prompts: tuple[Weighted, ...] = FOX, held: str | None = None) -> bytes:
    return save(TINY_SPEC, WEIGHTS, Saved(state, prompts, held))


def same(a: SessionState, b: SessionState) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(SessionState))


def test_the_state_has_the_same_size_after_thousands_of_segments() -> None:
    generator, state = started()
    before, shapes_ = state.nbytes, [part.shape for part in state.parts()]
    size = len(saved(state))
    advance(generator, state, 2000)
    assert state.index == 2000
    assert state.nbytes == before
    assert [part.shape for part in state.parts()] == shapes_
    assert len(saved(state)) == len(saved(state, (Weighted("\x01" * 2048, 1 / 3),), "left")) == size
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


def test_a_copy_shares_what_stays_the_same_and_is_never_written_to() -> None:
    generator, state = started()
    advance(generator, state, 12)
    before, numbers = state.copy(), [part.copy() for part in state.parts()]
    advance(generator, state)
    generator.conditioner.recondition(state, "night")
    generator.conditioner.start_scene(state, "a blue fox", seed=1, scene=1)
    assert all(map(np.array_equal, before.parts(), numbers))
    state = before.copy()
    advance(generator, state)
    known = {id(part) for part in before.parts()}
    new = sum(part.nbytes for part in state.parts() if id(part) not in known)
    assert 0 < new <= state.changed_bytes(1, TINY_SPEC.segment) < state.nbytes
    state.history[:] = 7  # an array of its own
    assert not (state.history == 7).any()


def test_a_saved_state_goes_on_bit_for_bit() -> None:
    generator, state = started()
    advance(generator, state, 11)
    prompts = (Weighted('a "red" fox, é 狐', 0.25), Weighted("night", 3.0))
    loaded = load(TINY_SPEC, WEIGHTS, saved(state, prompts, "left"))
    assert loaded[1:] == (prompts, "left")
    assert same(loaded.state, state)
    np.testing.assert_array_equal(advance(generator, loaded.state, 2), advance(generator, state, 2))
    assert same(loaded.state, state)


def with_about(about: object) -> bytes:
    """A snapshot whose prompts and action are replaced."""
    data = saved(started()[1])
    old = json.dumps({"prompts": [{"text": "a red fox", "weight": 1.0}], "held": None}).encode()
    assert data.count(old) == 1
    new = (about if isinstance(about, bytes) else json.dumps(about).encode()).ljust(len(old))
    at = data.index(old)
    return data[:at] + new + data[at + len(new) :]


def test_what_is_not_a_state_of_this_model_is_refused_by_name() -> None:
    _, state = started()
    good = saved(state)
    load(TINY_SPEC, WEIGHTS, good)
    far = state.copy()
    far.remembered = TINY_SPEC.memory_ring + 1
    fading = replace(state, fade_step=3, fade_steps=2)
    wild = replace(state, psi=np.full(state.psi.shape, np.inf, np.float32))
    other = replace(TINY_SPEC, name="other")
    for data, match in (
        (b"", "not a safetensors file"),
        (b"\xff" * 64, "not a safetensors file"),
        (good[:-5], "not a safetensors file"),
        (good + bytes(2**17), "too many"),
        (save(FAKE_SPEC, WEIGHTS, Saved(SessionState.zeros(FAKE_SPEC), FOX, None)), "too many"),
        (save(other, WEIGHTS, Saved(state, FOX, None)), r"model other \(weights 0123\), here runs tiny"),
        (save(TINY_SPEC, "4567", Saved(state, FOX, None)), r"weights 4567\), here runs tiny \(weights 0123"),
        (good.replace(b"psistream-session-4", b"psistream-session-9"), "format is psistream-session-9"),
        (saved(far), "remembered"),
        (saved(fading), "fade_step"),
        (saved(wild), "'psi' has numbers that are not finite"),
        (saved(replace(state, psi=np.full(state.psi.shape, -1e30, np.float32))), "'psi' has numbers beyond"),
        (saved(replace(state, anchor=state.anchor + np.float32(2000))), "'anchor' has numbers beyond 1000"),
        (saved(replace(state, psi=state.psi[:1])), "'psi' must be"),
        (saved(replace(state, views=state.views + np.float32(2000))), "'views' has numbers beyond 1000"),
        (saved(replace(state, odometer=2**23 + 1)), "'odometer' is out of range"),
        (saved(replace(state, acted=4)), "'acted' is out of range"),
        (saved(replace(state, landmarks=state.landmarks + np.float32(7))), "kinds or colours that there"),
        (saved(replace(state, landmarks=state.landmarks + np.float32(0.5))), "kinds or colours that there"),
        (saved(replace(state, psi=state.psi.astype(np.float16))), "'psi' must be"),
        (with_about(b"no JSON"), "'about'"),
        (with_about([]), "'about'"),
        (with_about({"prompts": [], "held": None}), "1 to 8"),
        (with_about({"prompts": [{"text": 5}], "held": None}), r"prompts\[0\].text must be a string"),
        (with_about({"prompts": [{"text": "x", "weight": 0}], "held": None}), "weight"),
        (with_about({"prompts": [{"text": "x"}], "held": "fly"}), "held must be one of"),
    ):
        with pytest.raises(InvalidInput, match=match) as caught:
            load(TINY_SPEC, WEIGHTS, data)
        assert caught.value.field == "snapshot"
        assert len(caught.value.message) < 300


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
