"""Mixtures of prompts: linear where tokens are, exact at both ends where lengths differ; made in batches."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from engine.backends.fake import FAKE_SPEC, FakeBackend
from engine.runtime.segment.generator import Generator, Job
from engine.runtime.state.blend import Conditioning, blend, flat, size, unflat
from engine.runtime.state.change import Change, NewScene
from engine.runtime.state.state import SessionState
from engine.types import Weighted


def said(seed: int, tokens: int | None = None) -> Conditioning:
    """Of 5 tokens, of which the first `tokens` are real; None: nothing is padded."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(0) if tokens is None else np.arange(5) < tokens
    parts = rng.normal(size=(5, 3)), rng.normal(size=4), rng.normal(size=2), mask
    return Conditioning(*(np.asarray(part, np.float32) for part in parts))


def test_without_padding_everything_is_mixed_evenly() -> None:
    a, b = said(1), said(2)
    mixed = blend([a, b], [3, 1])
    for part, x, y in zip(mixed[:3], a, b, strict=False):
        np.testing.assert_allclose(part, 0.75 * x + 0.25 * y, rtol=1e-5)
        assert part.dtype == np.float32
    assert blend([a], [0.1]) is a


def test_padded_prompts_keep_both_ends_and_change_their_length_once() -> None:
    short, long = said(1, tokens=2), said(2, tokens=4)
    nearly = [blend([short, long], w) for w in ([1, 1e-9], [1e-9, 1])]
    for mixed, end in zip(nearly, (short, long), strict=True):
        real = end.mask > 0
        np.testing.assert_allclose(mixed.text[real], end.text[real], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(mixed.mask, end.mask)
    lengths = [blend([short, long], [8 - n, n]).mask.sum() for n in range(1, 8)]
    assert lengths == [2, 2, 2, 4, 4, 4, 4]
    third = blend([short, long], [1, 2])
    np.testing.assert_allclose(third.text[0], (short.text[0] + 2 * long.text[0]) / 3, rtol=1e-5)
    np.testing.assert_array_equal(third.text[3], long.text[3])  # what only one has, whole
    assert np.isfinite(third.text).all()


def test_a_said_is_a_row_of_numbers_and_back() -> None:
    spec = replace(FAKE_SPEC, masked=True)
    state = SessionState.zeros(spec)
    empty = Conditioning(state.text, state.pooled, state.motion, state.text_mask)
    assert state.fade.shape == (2, size(spec)) == (2, flat(empty).size)
    one = said(1, tokens=2)
    assert all(np.array_equal(x, y) for x, y in zip(unflat(flat(one), one), one, strict=True))


def test_many_sessions_are_prepared_at_once_as_each_alone() -> None:
    def made(together: bool) -> tuple[list[SessionState], dict[str, int]]:
        backend = FakeBackend()
        generator = Generator(backend)
        states = [SessionState.zeros(backend.spec) for _ in range(4)]
        for n, state in enumerate(states):
            generator.conditioner.start_scene(state, "a red fox", seed=n, scene=0)
            for _ in range(3 * n):
                job = [Job(state, 0)]
                generator.finish(job, generator.denoise(job))
        image = np.full((3, 96, 160), 90, np.uint8)
        changes = [
            Change((Weighted("night"),)),
            Change((Weighted("night"), Weighted("a blue fox", 2.0)), over=4),
            Change((Weighted("a green city"),), scene=NewScene(9, 1)),
            Change((Weighted("night"),), scene=NewScene(9, 1, image)),
        ]
        wishes = list(zip(states, changes, strict=True))
        backend.calls.clear()
        for batch in [wishes] if together else [[wish] for wish in wishes]:
            generator.conditioner.prepare(batch)
        return states, dict(backend.calls)

    (one, few), (other, many) = made(together=True), made(together=False)
    for a, b in zip(one, other, strict=True):
        for f in fields(SessionState):
            np.testing.assert_array_equal(getattr(a, f.name), getattr(b, f.name), err_msg=f.name)
    assert few == {"encode_text": 1, "encode_image": 1, "embed_image": 1, "initial_memory": 1, "squeeze": 3}
    assert sum(many.values()) > 10
