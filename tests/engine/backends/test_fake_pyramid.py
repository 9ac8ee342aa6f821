"""The fake with Helios' shape: the whole runtime runs on it, in stages of several sizes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from engine.backends.fake_pyramid import FakePyramid
from engine.backends.registry import load_backend
from engine.errors import ModelFilesError
from engine.model.signature import ModelSpec, signature
from engine.runtime.device.scheduler import NextStage, SegmentStage, pick
from engine.runtime.segment.generator import Generator, Job
from engine.runtime.state.state import SessionState
from engine.types import FloatArray


def started(generator: Generator, text: str, seed: int = 1) -> SessionState:
    state = SessionState.zeros(generator.spec)
    generator.conditioner.start_scene(state, text, seed=seed, scene=0)
    return state


def test_its_contract_has_a_role_for_each_stage_and_nothing_of_psi() -> None:
    roles = signature(FakePyramid().spec)
    denoise = ["denoise_0", "denoise_1", "denoise_2"]
    encode = ["encode_image", "encode_text", "encode_video"]
    assert sorted(roles) == ["decode", *denoise, *encode, "project_text"]
    assert [roles[f"denoise_{k}"].inputs[0].shape[-2:] for k in range(3)] == [(3, 5), (6, 10), (12, 20)]


def test_the_spec_survives_its_manifest() -> None:
    spec = FakePyramid().spec
    assert ModelSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_a_prompt_is_seen_in_a_segment_of_33_frames() -> None:
    generator = Generator(FakePyramid())
    state = started(generator, "red")
    jobs = [Job(state, 0)]
    frames = generator.finish(jobs, generator.denoise(jobs))[0].frames
    assert frames is not None
    assert frames.shape == (33, 96, 160, 3)
    sky = frames[-1, 20:60].reshape(-1, 3).mean(0)
    assert sky[0] > 2 * sky[1]


def test_the_first_segment_takes_twice_as_many_calls() -> None:
    backend = FakePyramid()
    generator = Generator(backend)
    state = started(generator, "red")
    for calls in ((4, 4, 4), (6, 6, 6)):
        jobs = [Job(state, 0)]
        generator.finish(jobs, generator.denoise(jobs))
        assert tuple(backend.calls[f"denoise_{k}"] for k in range(3)) == calls


def test_sessions_share_calls_within_a_stage_and_never_across() -> None:
    """One is a step ahead: it is alone in the first and the last call of each stage."""
    backend = FakePyramid()
    generator = Generator(backend)
    one, two = (generator.begin(Job(started(generator, c), 0)) for c in ("red", "blue"))
    generator.step([one])
    while one.steps_left or two.steps_left:
        generator.step([d for d in (one, two) if d.steps_left])
    rows = Counter(backend.batches)
    assert sum(backend.batches) == 24
    assert rows[2] == 3 * 3  # of four calls per stage three overlap
    alone: list[FloatArray] = []
    for colour in ("red", "blue"):
        alone.append(generator.denoise([Job(started(generator, colour), 0)])[0])
    np.testing.assert_array_equal(one.x, alone[0])
    np.testing.assert_array_equal(two.x, alone[1])


def test_a_turn_takes_drafts_of_one_role() -> None:
    work = [
        NextStage("a", SegmentStage.DENOISE, 1.0, role="denoise_2"),
        NextStage("b", SegmentStage.DENOISE, 2.0, role="denoise_0"),
        NextStage("c", SegmentStage.DENOISE, 3.0, role="denoise_2"),
    ]
    turn = pick(work, 0.0, dict.fromkeys(SegmentStage, 8))
    assert turn is not None
    assert turn.sessions == ["a", "c"]


def test_fake_json_gives_helios_shape_and_times(tmp_path: Path) -> None:
    (tmp_path / "fake.json").write_text('{"shape": "helios", "costs": {"denoise_2": [0.5, 0]}}')
    backend = load_backend("fake", tmp_path)
    assert isinstance(backend, FakePyramid)
    slept: list[float] = []
    backend.sleep_by(slept.append)
    generator = Generator(backend)
    generator.denoise([Job(started(generator, "red"), 0)])
    assert slept == [0.5] * 4


@pytest.mark.parametrize("said", ['{"shape": "other"}', '{"shape": "helios", "actions": ["left"]}'])
def test_another_shape_is_refused(tmp_path: Path, said: str) -> None:
    (tmp_path / "fake.json").write_text(said)
    with pytest.raises(ModelFilesError, match="helios"):
        load_backend("fake", tmp_path)
