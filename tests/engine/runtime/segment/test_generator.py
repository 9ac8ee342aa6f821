"""Segments and states: the step contract's functions in the right order, independent of company."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engine.backends.base import Arrays
from engine.backends.fake import FAKE_SPEC, NAN_WORD, FakeBackend
from engine.errors import BackendError
from engine.model.signature import ModelSpec
from engine.runtime.segment.generator import Generator, Job
from engine.runtime.segment.noise import gaussian
from engine.runtime.state.state import SessionState
from engine.types import FloatArray
from tests.rigs.engine.fakes import TINY_SPEC

LATENTS = (TINY_SPEC.segment, 16, 2, 2)


class SpyBackend(FakeBackend):
    """Keeps the inputs of each call."""

    def __init__(self, spec: ModelSpec = TINY_SPEC) -> None:
        super().__init__(spec)
        self.seen: list[tuple[str, dict[str, npt.NDArray[Any]]]] = []

    def run(self, role: str, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        self.seen.append((role, {name: array.copy() for name, array in inputs.items()}))
        return super().run(role, inputs)

    def of(self, role: str) -> list[dict[str, npt.NDArray[Any]]]:
        return [inputs for name, inputs in self.seen if name == role]


def start(generator: Generator, prompt: str = "a red fox", seed: int = 1, scene: int = 0) -> SessionState:
    state = SessionState.zeros(TINY_SPEC)
    generator.conditioner.start_scene(state, prompt, seed=seed, scene=scene)
    return state


def advance(generator: Generator, *states: SessionState, action: int = 2) -> list[FloatArray]:
    jobs = [Job(state, action) for state in states]
    latents = generator.denoise(jobs)
    return [segment.latents for segment in generator.finish(jobs, latents)]


def same(a: SessionState, b: SessionState, *, but: tuple[str, ...] = ()) -> bool:
    names = [f.name for f in fields(SessionState) if f.name not in but]
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in names)


def given_latents(number: int) -> FloatArray:
    return gaussian(99, 0, number, (1, *LATENTS))


def test_results_do_not_depend_on_the_company_in_the_batch() -> None:
    generator = Generator(FakeBackend(TINY_SPEC))
    prompts = ("a red fox", "a blue city", "night")
    together = [start(generator, p, seed) for seed, p in enumerate(prompts)]
    alone = [state.copy() for state in together]
    for _ in range(12):
        expected = [advance(generator, state)[0] for state in alone]
        for a, b in zip(advance(generator, *together), expected, strict=True):
            np.testing.assert_array_equal(a, b)
    assert all(same(a, b) for a, b in zip(together, alone, strict=True))


def test_recondition_equals_a_session_with_that_prompt_from_the_start() -> None:
    """For the same segments: what is remembered of them is kept, only the text under it changes, and that
    what was seen so far was seen under another look."""
    generator = Generator(FakeBackend(TINY_SPEC))
    never, changed = start(generator, "a blue robot"), start(generator, "a red fox")
    for n in range(TINY_SPEC.memory_ring):
        for state in (never, changed):
            generator.finish([Job(state, 2)], given_latents(n))
        assert not np.array_equal(never.psi, changed.psi)
    generator.conditioner.recondition(changed, "a blue robot")
    assert (changed.look, changed.age) == (1, 0)
    never.look, never.age = 1, 0
    assert same(never, changed)
    np.testing.assert_array_equal(advance(generator, never)[0], advance(generator, changed)[0])


def test_recondition_costs_the_same_however_long_the_session() -> None:
    backend = SpyBackend()
    generator = Generator(backend)
    state = start(generator)
    counts = []
    for n in range(30):
        generator.finish([Job(state, 2)], given_latents(n))
        backend.seen.clear()
        generator.conditioner.recondition(state, "night")
        counts.append(len(backend.of("squeeze")))
        assert not backend.of("denoise")
    assert counts == [min(n, TINY_SPEC.memory_ring) for n in range(1, 31)]


def test_a_prompt_only_scene_starts_without_context_and_its_first_latent_becomes_the_anchor() -> None:
    backend = SpyBackend()
    generator = Generator(backend)
    state = start(generator)
    first = advance(generator, state)[0]
    calls = backend.of("denoise")
    assert len(calls) == TINY_SPEC.first_steps
    assert [float(c["t"][0]) for c in calls] == [0, 0.25, 0.5, 0.75]
    assert all(c["d"] == 0.25 and c["context"] == 0 and not c["anchor"].any() for c in calls)
    assert not calls[0]["history"].any()
    np.testing.assert_array_equal(state.anchor, first[:1])
    np.testing.assert_array_equal(state.history[-2:], first)
    # ψ₀ is made again from the new anchor before the first squeeze
    embedded = FakeBackend(TINY_SPEC).run(
        "embed_image", {"anchor": first[None, :1], "context": np.ones(1, "f")}
    )
    np.testing.assert_array_equal(state.image, embedded["image"][0])
    np.testing.assert_array_equal(
        backend.of("squeeze")[0]["psi"][0], np.concatenate([state.text, embedded["image"][0]])
    )
    backend.seen.clear()
    second = advance(generator, state)[0]
    calls = backend.of("denoise")
    assert len(calls) == TINY_SPEC.steps
    assert all(c["context"] == 1 and c["index"] == 1 and (c["actions"] == 2).all() for c in calls)
    np.testing.assert_array_equal(calls[0]["history"][0, -2:], first)
    np.testing.assert_array_equal(calls[0]["anchor"][0], first[:1])
    np.testing.assert_array_equal(state.history[-4:], np.concatenate([first, second]))
    assert not backend.of("embed_image")  # once per scene


def test_a_scene_from_a_picture_has_context_from_the_first_step() -> None:
    backend = SpyBackend()
    generator = Generator(backend)
    state = SessionState.zeros(TINY_SPEC)
    pixels = np.full((3, TINY_SPEC.height, TINY_SPEC.width), 200, np.uint8)
    generator.conditioner.start_scene(state, "a red fox", seed=1, scene=0, image=pixels)
    anchor = state.anchor.copy()
    assert anchor.any()
    advance(generator, state)
    call = backend.of("denoise")[0]
    assert call["context"] == 1
    np.testing.assert_array_equal(call["anchor"][0], anchor)
    np.testing.assert_array_equal(call["history"][0, -1], anchor[0])
    np.testing.assert_array_equal(state.anchor, anchor)


def test_the_landmarks_of_a_start_picture_are_its_own() -> None:
    """Those that the seed would plan there used to replace them."""
    backend = SpyBackend(FAKE_SPEC)
    generator = Generator(backend)
    state = SessionState.zeros(FAKE_SPEC)
    pixels = np.full((3, FAKE_SPEC.height, FAKE_SPEC.width), 200, np.uint8)
    generator.conditioner.start_scene(state, "a red fox", seed=1, scene=0, image=pixels)
    advance(generator, state)
    plan = backend.of("denoise")[0]["landmarks"][0]
    inside = np.abs(plan[:, 0]) < FAKE_SPEC.width / 2
    assert inside.any()
    assert not plan[inside, 1].any()


def test_a_cut_leaves_nothing_of_the_scene_before() -> None:
    generator = Generator(FakeBackend(TINY_SPEC))
    state = start(generator, "a red fox")
    for _ in range(20):
        advance(generator, state)
    generator.conditioner.start_scene(state, "night", seed=1, scene=1)
    fresh = start(generator, "night", scene=1)
    assert same(state, fresh)
    np.testing.assert_array_equal(advance(generator, state)[0], advance(generator, fresh)[0])


def test_numbers_that_run_away_leave_that_state_alone_and_the_others_go_on() -> None:
    generator = Generator(FakeBackend(TINY_SPEC))
    bad, good = start(generator, NAN_WORD), start(generator, "a red fox")
    before, alone = bad.copy(), good.copy()
    jobs = [Job(bad, 0), Job(good, 0)]
    latents = generator.denoise(jobs)
    segments = generator.finish(jobs, latents)
    assert segments[0].frames is None
    assert segments[1].frames is not None
    assert same(bad, before)
    advance(generator, alone, action=0)
    assert same(good, alone)


def test_whatever_fails_changes_no_state_so_that_it_can_be_tried_again() -> None:
    class Flaky(FakeBackend):
        broken = ""

        def run(self, role: str, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
            if role == self.broken:
                raise BackendError("flaky")
            return super().run(role, inputs)

    backend = Flaky(TINY_SPEC)
    generator = Generator(backend)
    state, untouched = start(generator), start(generator)
    for segment in range(2):
        for role in ("denoise", "decode", "embed_image", "memorize", "squeeze"):
            if role == "embed_image" and segment:
                continue
            backend.broken = role
            before = state.copy()
            with pytest.raises(BackendError):
                advance(generator, state)
            assert same(state, before)
        backend.broken = ""
        np.testing.assert_array_equal(advance(generator, state)[0], advance(generator, untouched)[0])


def test_a_draft_can_be_thrown_away_between_any_two_stages() -> None:
    generator = Generator(FakeBackend(TINY_SPEC))
    state = start(generator)
    advance(generator, state)
    before = state.copy()
    draft = generator.begin(Job(state, 0))
    while draft.steps_left:
        generator.step([draft])
        assert same(state, before)
    generator.decode([draft])
    generator.remember([draft])
    assert same(state, before)
    draft.commit()
    assert state.index == before.index + 1


def test_a_batch_mixes_drafts_at_different_steps_of_segments_of_different_length() -> None:
    backend = SpyBackend()
    generator = Generator(backend)
    old, new, late = (
        start(generator, "a red fox", 1),
        start(generator, "night", 2),
        start(generator, "blue", 3),
    )
    advance(generator, old)
    alone = [state.copy() for state in (old, new, late)]
    for state in alone:
        advance(generator, state)
    backend.seen.clear()
    drafts = [generator.begin(Job(state, 2)) for state in (old, new, late)]  # of 2, 4 and 4 steps
    generator.step(drafts[:1])
    generator.step(drafts[:2])
    generator.decode(drafts[:1])
    generator.step(drafts[1:])
    generator.step(drafts[1:])
    generator.step(drafts[1:])
    generator.decode(drafts[1:2])
    generator.remember(drafts[:2])
    generator.step(drafts[2:])
    generator.decode(drafts[2:])
    generator.remember(drafts[2:])
    for draft in drafts:
        draft.commit()
    calls = backend.of("denoise")
    assert [c["t"].tolist() for c in calls] == [[0], [0.5, 0], [0.25, 0], [0.5, 0.25], [0.75, 0.5], [0.75]]
    assert [c["d"].tolist() for c in calls[:3]] == [[0.5], [0.5, 0.25], [0.25, 0.25]]
    assert all(same(a, b) for a, b in zip((old, new, late), alone, strict=True))


def test_context_noise_is_told_to_the_model_and_put_on_the_history() -> None:
    backend = SpyBackend()
    generator = Generator(backend, context_noise=0.1)
    state = start(generator)
    advance(generator, state)
    advance(generator, state)
    advance(generator, state)
    first, second, third = backend.of("denoise")[0], *backend.of("denoise")[-4::2]
    assert first["sigma"] == np.float32(0.1)
    assert not first["history"].any()
    for call, inside in ((second, 2), (third, 4)):  # frames before the scene stay as they are
        assert not call["history"][0, :-inside].any()
    clean = state.history[-6:-2]
    np.testing.assert_allclose(third["history"][0, -4:] - 0.9 * clean, 0, atol=0.6)
    assert not np.array_equal(third["history"][0, -4:], clean)
