"""ONNX Runtime equals PyTorch, segment after segment; a graph that breaks the contract is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.backends.artifact import open_artifact, write_manifest
from engine.backends.base import Backend
from engine.backends.ort import OrtBackend, load
from engine.backends.pytorch import ReferenceBackend
from engine.backends.registry import load_backend
from engine.errors import BackendError, ModelFilesError
from engine.runtime.segment.generator import Generator, Job, Segment
from engine.runtime.state.state import SessionState
from tests.rigs.paths import ROOT

pytestmark = pytest.mark.timeout(600)  # the export is made in whichever test comes first

PROMPTS = ("a red fox walks left", "snow", "a blue robot, night")
SEGMENTS = 16


@pytest.fixture(scope="module")
def backend(tiny_artifact: Path) -> Iterator[OrtBackend]:
    backend = OrtBackend(open_artifact(tiny_artifact), threads=1)
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def reference(tiny_artifact: Path) -> ReferenceBackend:
    return ReferenceBackend(open_artifact(tiny_artifact))


class Video:
    """Sessions that run in one batch, as the runtime runs them."""

    def __init__(self, backend: Backend, batch: int) -> None:
        self.generator = Generator(backend)
        self.states = [SessionState.zeros(backend.spec) for _ in range(batch)]
        picture = np.random.default_rng(1).integers(0, 256, (3, 48, 80), dtype=np.uint8)
        for seed, state in enumerate(self.states):
            image = picture if seed == 1 else None  # sessions with and without one share a batch
            self.generator.conditioner.start_scene(state, PROMPTS[seed], seed=seed, scene=0, image=image)

    def segment(self, number: int) -> list[Segment]:
        jobs = [Job(state, (number + i) % 4) for i, state in enumerate(self.states)]
        latents = self.generator.denoise(jobs)
        return self.generator.finish(jobs, latents)


@pytest.mark.parametrize("batch", [1, 3])
def test_it_equals_the_reference_over_many_segments_of_its_own_recursion(
    backend: OrtBackend, reference: ReferenceBackend, batch: int
) -> None:
    """Each backend goes on from what it made itself; a prompt changes on the way."""
    ours, theirs = Video(backend, batch), Video(reference, batch)
    for number in range(SEGMENTS):
        if number == 6:
            for video in (ours, theirs):
                video.generator.conditioner.recondition(video.states[0], "a fox, snow, night")
        for a, b in zip(ours.segment(number), theirs.segment(number), strict=True):
            np.testing.assert_allclose(a.latents, b.latents, atol=1e-5, rtol=1e-5)
            assert a.frames is not None
            assert b.frames is not None
            assert int(np.abs(a.frames.astype(int) - b.frames).max()) <= 1  # rounding
    for state, other in zip(ours.states, theirs.states, strict=True):
        assert state.remembered == other.remembered == backend.spec.memory_ring
        for name in ("psi", "ring", "anchor", "history", "image"):
            np.testing.assert_allclose(getattr(state, name), getattr(other, name), atol=1e-5, err_msg=name)


def test_the_video_moves_and_sessions_differ(backend: OrtBackend) -> None:
    """Parity of two backends that both answer nothing would prove nothing."""
    video = Video(backend, 3)
    first, *_, last = [np.stack([s.latents for s in video.segment(n)]) for n in range(4)]
    assert float(np.abs(first - last).mean()) > 0.05
    assert float(np.abs(last[0] - last[2]).mean()) > 0.05
    assert float(last.std()) > 0.2


def test_the_same_segment_comes_again_bit_for_bit(backend: OrtBackend) -> None:
    one, two = Video(backend, 2), Video(backend, 2)
    for number in range(3):
        for a, b in zip(one.segment(number), two.segment(number), strict=True):
            np.testing.assert_array_equal(a.latents, b.latents)


def test_wrong_shapes_are_a_backend_error_that_names_the_role(backend: OrtBackend) -> None:
    with pytest.raises(BackendError, match=r"^squeeze: "):
        backend.run("squeeze", {"psi": np.zeros((1, 3, 3), "f"), "memory": np.zeros((1, 3, 3), "f")})


def test_it_is_loaded_by_name_and_closing_twice_is_fine(tiny_artifact: Path) -> None:
    backend = load_backend("onnxruntime", tiny_artifact)
    assert backend.name == "onnxruntime"
    backend.close()
    backend.close()


@pytest.fixture
def copy(tiny_artifact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_artifact, tmp_path / "copy"))


def test_a_role_without_a_graph_is_named(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["graphs"] = [g for g in manifest["graphs"] if g["role"] != "squeeze"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(
        ModelFilesError, match=r"no fp32 graph for role 'squeeze'; `psistream export onnx"
    ) as e:
        load(copy)
    assert e.value.field == "graphs"


def test_a_graph_of_other_shapes_is_refused_and_told_apart(copy: Path) -> None:
    """Say, weights of one model in the folder of another."""
    artifact = open_artifact(copy)
    data = artifact.spec.to_json() | {"model_dim": 64}
    write_manifest(copy, type(artifact.spec).from_json(data), artifact.config, artifact.graphs)
    expected = r"encode_text: output .*'text'.*32.* should be .*'text'.*64"
    with pytest.raises(ModelFilesError, match=expected):
        load(copy)


def test_a_graph_in_anothers_place_is_refused(copy: Path) -> None:
    """The manifest lies: only the graph itself can tell."""
    artifact = open_artifact(copy)
    graphs = [replace(g, file="decode.onnx") if g.role == "memorize" else g for g in artifact.graphs]
    write_manifest(copy, artifact.spec, artifact.config, graphs)
    with pytest.raises(ModelFilesError, match="memorize: inputs differ") as e:
        load(copy)
    assert e.value.field == "memorize"


def test_a_file_that_is_no_graph_is_named(copy: Path) -> None:
    artifact = open_artifact(copy)
    (copy / "decode.onnx").write_bytes(b"not a graph")
    write_manifest(copy, artifact.spec, artifact.config, artifact.graphs)
    with pytest.raises(ModelFilesError, match=r"decode\.onnx is not an ONNX file") as e:
        load(copy)
    assert e.value.field == "decode.onnx"


def test_the_library_reports_nothing(tmp_path: Path) -> None:
    """Its Linux packages write an id and a database below the home folder and send what models are called."""
    silent = ("ORT_DISABLE_TELEMETRY", "CI", "ORT_RUNNING_UNIT_TESTS")
    environment = {k: v for k, v in os.environ.items() if k not in silent and not k.startswith("XDG_")}
    program = "import engine.backends.ort as o; o.ort.SessionOptions()"
    subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env={**environment, "HOME": str(tmp_path)}, check=True
    )
    assert list(tmp_path.iterdir()) == []
