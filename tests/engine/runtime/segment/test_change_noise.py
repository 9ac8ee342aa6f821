"""Noise on the history right after a new prompt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from engine.backends.artifact import open_artifact
from engine.runtime.segment.generator import CHANGED, Generator
from engine.runtime.state.change import Change, as_prompts
from tests.engine.runtime.segment.test_generator import SpyBackend, advance, start
from tests.rigs.engine.fakes import TINY_SPEC


def changing(level: float, context_noise: float | None = None) -> tuple[SpyBackend, Generator]:
    backend = SpyBackend(replace(TINY_SPEC, context_noise=0.1, change_noise=level))
    return backend, Generator(backend, context_noise)


def levels(backend: SpyBackend) -> list[float]:
    """The history's noise of each segment, rounded."""
    told = [(float(c["index"][0]), round(float(c["sigma"][0]), 3)) for c in backend.of("denoise")]
    return [level for _, level in dict.fromkeys(told)]


def test_after_a_new_prompt_two_segments_have_more_noise_on_their_history() -> None:
    backend, generator = changing(0.4)
    state = start(generator)
    advance(generator, state)
    generator.conditioner.recondition(state, "a blue fox")
    for _ in range(4):
        advance(generator, state)
    assert levels(backend) == [0.1, 0.4, 0.4, 0.1, 0.1]
    call = backend.of("denoise")[-1 - 2 * 3]
    clean = state.history[-10:-8]
    np.testing.assert_allclose(call["history"][0, -2:] - 0.6 * clean, 0, atol=2.5)
    generator.conditioner.start_scene(state, "a blue fox", seed=1, scene=1)
    advance(generator, state)
    assert backend.of("denoise")[-1]["sigma"] == np.float32(0.1)


def test_a_soft_change_has_no_more_noise_until_it_is_done() -> None:
    backend, generator = changing(0.4)
    state = start(generator)
    advance(generator, state)
    for change in (Change(as_prompts("a blue fox"), over=3), Change(), Change()):
        generator.conditioner.prepare([(state, change)])
        advance(generator, state)
    advance(generator, state)
    advance(generator, state)
    assert levels(backend) == [0.1, 0.1, 0.1, 0.4, 0.4, 0.1]


def test_a_level_of_ones_own_and_a_lower_one_change_nothing_after_a_prompt() -> None:
    for level, own, expected in ((0.4, 0.2, 0.2), (0.05, None, 0.1), (0.0, None, 0.1)):
        backend, generator = changing(level, own)
        state = start(generator)
        advance(generator, state)
        generator.conditioner.recondition(state, "a blue fox")
        advance(generator, state)
        assert levels(backend) == [expected, expected]


def test_the_built_in_model_asks_for_it() -> None:
    spec = open_artifact(None).spec
    assert spec.change_noise > spec.context_noise
    assert CHANGED == 2
