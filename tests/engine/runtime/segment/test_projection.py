"""A prompt's text is projected once, whatever the number of calls, segments and sessions that read it."""

from __future__ import annotations

import gc

import numpy as np

from engine.backends.fake import FakeBackend
from engine.backends.fake_pyramid import FakePyramid
from engine.runtime.segment.generator import Generator, Job
from engine.runtime.segment.projection import Projections
from engine.runtime.state.change import Change, as_prompts
from engine.runtime.state.state import SessionState


def started(generator: Generator, text: str) -> SessionState:
    state = SessionState.zeros(generator.spec)
    generator.conditioner.start_scene(state, text, seed=1, scene=0)
    return state


def play(generator: Generator, states: list[SessionState], segments: int) -> None:
    for _ in range(segments):
        jobs = [Job(state, 0) for state in states]
        generator.finish(jobs, generator.denoise(jobs))


def test_a_prompt_is_projected_once_for_all_its_segments_and_calls() -> None:
    backend = FakePyramid()
    generator = Generator(backend)
    state = started(generator, "red")
    play(generator, [state, state.copy()], 3)
    assert sum(backend.calls[f"denoise_{k}"] for k in range(3)) == 12 + 6 + 6
    assert backend.calls["project_text"] == 1
    generator.conditioner.recondition(state, "blue")
    play(generator, [state], 2)
    assert backend.calls["project_text"] == 2


def test_each_step_of_a_soft_change_is_a_text_of_its_own() -> None:
    backend = FakePyramid()
    generator = Generator(backend)
    state = started(generator, "red")
    generator.conditioner.prepare([(state, Change(as_prompts("blue"), over=3))])
    for _ in range(2):
        play(generator, [state], 1)
        generator.conditioner.prepare([(state, Change())])
    play(generator, [state], 2)
    assert backend.calls["project_text"] == 1 + 3


def test_texts_of_several_sessions_are_projected_in_one_call() -> None:
    backend = FakePyramid()
    texts = [np.full((8, 32), n, np.float32) for n in range(3)]
    found = Projections(backend)
    found.make([*texts, texts[0]])
    assert (backend.calls["project_text"], len(found)) == (1, 3)
    np.testing.assert_array_equal(found.of(texts[2]), texts[2])
    assert backend.calls["project_text"] == 1


def test_what_nobody_holds_any_more_is_forgotten_and_the_rest_is_bounded() -> None:
    backend = FakePyramid()
    found = Projections(backend, most=2)
    texts = [np.full((8, 32), n, np.float32) for n in range(3)]
    found.make(texts)
    assert len(found) == 2
    np.testing.assert_array_equal(found.of(texts[0]), texts[0])  # dropped, so it is made again
    assert backend.calls["project_text"] == 2
    del texts
    gc.collect()
    assert len(found) == 0


def test_models_that_project_in_every_call_are_left_alone() -> None:
    found = Projections(FakeBackend())
    found.make([np.zeros((8, 32), np.float32)])
    assert not found.needed
    assert len(found) == 0
