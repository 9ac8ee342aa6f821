"""The fake backend keeps the step contract, and its pictures show what went in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engine.backends.fake import FAIL_WORD, FAKE_SPEC, FakeBackend, load
from engine.backends.registry import load_backend
from engine.errors import BackendError, InvalidInput, ModelFilesError, OutOfMemory
from engine.model.signature import signature
from engine.runtime.segment.generator import Generator, Job
from engine.runtime.state.state import SessionState
from engine.types import ByteArray
from tests.rigs.engine.fakes import TINY_SPEC

Inputs = dict[str, npt.NDArray[Any]]
ROLES = sorted(signature(FAKE_SPEC))


def some_inputs(role: str, batch: int, seed: int = 0) -> Inputs:
    random = np.random.default_rng(seed)
    inputs: Inputs = {}
    for t in signature(FAKE_SPEC)[role].inputs:
        shape = (batch, *t.shape)
        if t.dtype == "float32":
            inputs[t.name] = random.random(shape, np.float32)
        else:
            inputs[t.name] = random.integers(0, len(FAKE_SPEC.actions), shape).astype(t.dtype)
    return inputs


@pytest.mark.parametrize("role", ROLES)
def test_every_role_keeps_names_shapes_and_dtypes(role: str) -> None:
    outputs = FakeBackend().run(role, some_inputs(role, 3))
    expected = signature(FAKE_SPEC)[role].outputs
    assert {name: (a.shape, a.dtype) for name, a in outputs.items()} == {
        t.name: ((3, *t.shape), np.dtype(t.dtype)) for t in expected
    }


@pytest.mark.parametrize("role", ROLES)
def test_a_row_does_not_depend_on_its_company(role: str) -> None:
    backend, inputs = FakeBackend(), some_inputs(role, 4)
    whole = backend.run(role, inputs)
    for b in (0, 3):
        alone = backend.run(role, {name: a[b : b + 1] for name, a in inputs.items()})
        for name, array in alone.items():
            np.testing.assert_array_equal(array[0], whole[name][b])


@pytest.mark.parametrize("role", ROLES)
def test_a_breach_of_the_contract_is_refused_by_name(role: str) -> None:
    backend, good = FakeBackend(), some_inputs(role, 2)
    name = next(iter(good))
    for bad in (
        {**good, name: good[name].astype(np.float64)},
        {**good, name: good[name][:, None]},
        {**good, name: good[name][:0]},
        {**good, "extra": good[name]},
        {},
    ):
        with pytest.raises(BackendError):
            backend.run(role, bad)
    with pytest.raises(BackendError, match="unknown role"):
        backend.run("dream", good)


def test_decoding_in_pieces_equals_decoding_at_once() -> None:
    """The state carries the latest latent: without it, motion would jump at the border of two pieces."""
    backend = FakeBackend()
    latents = np.random.default_rng(0).random((1, 2 * FAKE_SPEC.segment, 16, 12, 20), np.float32)
    state = np.zeros((1, *FAKE_SPEC.decoder_state), np.float32)
    pieces = []
    for piece in np.split(latents, 2, 1):
        out = backend.run("decode", {"latents": piece, "state": state})
        pieces.append(out["frames"])
        state = out["state_next"]
    whole = backend._decode({"latents": latents[0], "state": np.zeros(FAKE_SPEC.decoder_state, np.float32)})
    np.testing.assert_array_equal(np.concatenate(pieces, 1)[0], whole["frames"])


def test_memory_depends_on_order() -> None:
    backend = FakeBackend()
    psi = some_inputs("squeeze", 1)["psi"]
    m1, m2 = (some_inputs("squeeze", 1, seed)["memory"] for seed in (1, 2))

    def fold(*memories: npt.NDArray[Any]) -> npt.NDArray[Any]:
        result = psi
        for m in memories:
            result = backend.run("squeeze", {"psi": result, "memory": m})["psi_next"]
        return result

    assert not np.array_equal(fold(m1, m2), fold(m2, m1))
    segment = some_inputs("memorize", 1)["segment"]
    forward = backend.run("memorize", {"segment": segment})["memory"]
    assert not np.array_equal(forward, backend.run("memorize", {"segment": segment[:, ::-1]})["memory"])


def picture(prompt: str, actions: list[str]) -> ByteArray:
    """The last frame (H, W, 3) after one segment per action."""
    generator = Generator(FakeBackend())
    state = SessionState.zeros(FAKE_SPEC)
    generator.conditioner.start_scene(state, prompt, seed=1, scene=0)
    frame = np.zeros((0,), np.uint8)
    for action in actions:
        job = Job(state, FAKE_SPEC.actions.index(action))
        latents = generator.denoise([job])
        segments = generator.finish([job], latents)
        assert segments[0].frames is not None
        frame = segments[0].frames[-1]
    return frame


@pytest.mark.parametrize(("word", "channel"), [("red", 0), ("green", 1), ("blue", 2)])
def test_the_background_has_the_colour_of_the_prompt(word: str, channel: int) -> None:
    sky = picture(f"a robot in a {word} city", ["idle"])[20:60].mean((0, 1))
    assert int(sky.argmax()) == channel
    assert sky[channel] > 1.5 * np.median(sky)


def test_left_and_right_move_the_stripes_and_jump_lifts_the_hero() -> None:
    still, right = picture("red", ["idle"]), picture("red", ["right"])
    there_and_back = picture("red", ["idle", "right", "left"])
    assert not np.array_equal(still[40], right[40])
    np.testing.assert_array_equal(np.roll(right[40], 16, 0), still[40])  # two latents of 8 px
    np.testing.assert_allclose(there_and_back[30].astype(int), picture("red", ["idle"] * 3)[30], atol=1)
    hero = (250, 120, 20)
    top = [np.argwhere((p == hero).all(-1))[:, 0].min() for p in (still, picture("red", ["jump"]))]
    assert top[0] - top[1] == 24


def test_tokens_are_bounded_and_actions_in_the_prompt_are_its_motion() -> None:
    backend = FakeBackend()
    ids, mask = backend.tokenize("word " * 500)
    assert ids.shape == mask.shape == (FAKE_SPEC.text_length,)
    for text, expected in (("a blue robot walks right", 3), ("", 0), ("jump!", 4), ("a quiet city", 0)):
        ids, mask = backend.tokenize(text)
        motion = backend.run("encode_text", {"ids": ids[None], "mask": mask[None]})["motion"]
        assert int(motion[0].argmax()) == expected


def test_faults_can_be_asked_for() -> None:
    with pytest.raises(BackendError, match=FAIL_WORD):
        picture(f"{FAIL_WORD} goes the fox", ["idle"])
    backend = FakeBackend(TINY_SPEC, fail_after=1)
    inputs = {t.name: np.ones((1, *t.shape), t.dtype) for t in signature(TINY_SPEC)["denoise"].inputs}
    inputs["pooled"][:, 4:6] = 0
    backend.run("denoise", inputs)
    with pytest.raises(BackendError, match="after 1"):
        backend.run("denoise", inputs)


def test_it_is_as_slow_as_it_is_told(tmp_path: Path) -> None:
    assert load(tmp_path).delay_s == 0.0
    (tmp_path / "fake.json").write_text('{"delay_s": 0.5, "jitter": 0.2}')
    backend = load(tmp_path)
    assert (backend.delay_s, backend.jitter) == (0.5, 0.2)

    def slept() -> list[float]:
        times: list[float] = []
        slow = FakeBackend(TINY_SPEC, delay_s=0.5, jitter=0.2, sleep=times.append)
        inputs = {t.name: np.zeros((1, *t.shape), t.dtype) for t in signature(TINY_SPEC)["denoise"].inputs}
        inputs["d"][:] = 0.5
        for _ in range(50):
            slow.run("denoise", inputs)
        return times

    assert slept() == slept()
    assert 0.4 <= min(slept()) < 0.45
    assert 0.55 < max(slept()) <= 0.6


def test_calls_and_rows_cost_what_they_are_told(tmp_path: Path) -> None:
    (tmp_path / "fake.json").write_text(
        '{"costs": {"denoise": [0.01, 0.002]}, "most_rows": 3, "hang_after": 2}'
    )
    told = load(tmp_path)
    assert (told.costs, told.most_rows, told.hang_after) == ({"denoise": (0.01, 0.002)}, 3, 2)
    times: list[float] = []
    backend = FakeBackend(
        TINY_SPEC, costs=told.costs, most_rows=3, hang_after=2, hang_s=5.0, sleep=times.append
    )

    def run(rows: int) -> None:
        inputs = {t.name: np.zeros((rows, *t.shape), t.dtype) for t in signature(TINY_SPEC)["denoise"].inputs}
        inputs["d"][:] = 0.5
        backend.run("denoise", inputs)

    run(1)
    run(3)
    with pytest.raises(OutOfMemory, match="room for 3 rows, not for 4"):
        run(4)
    run(1)
    assert times == pytest.approx([0.012, 0.016, 5.018, 0.012])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"delay": 1}',
        '{"delay_s": -1}',
        '{"jitter": null}',
        '{"jitter": NaN}',
        "{}}",
        '{"costs": {"decode": 1}}',
    ],
)
def test_settings_that_make_no_sense_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "fake.json").write_text(text)
    with pytest.raises(ModelFilesError, match="delay_s") as caught:
        load(tmp_path)
    assert caught.value.field == "model"


def test_the_registry_names_the_choices() -> None:
    assert load_backend("fake").name == "fake"
    assert load(Path("anywhere")).spec == FAKE_SPEC
    with pytest.raises(InvalidInput, match=r"onnxruntime, reference, .*fake") as caught:
        load_backend("tpu")
    assert caught.value.field == "backend"
