"""The reference backend: PyTorch behind the same contract, with the arithmetic that training samples by."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.backends.artifact import WEIGHTS, Artifact, open_artifact, write_manifest
from engine.backends.pytorch import ReferenceBackend, load, load_model
from engine.errors import BackendError, ModelFilesError
from engine.landmarks.plan import in_view, planned
from engine.model.conditions import denoise_inputs
from engine.model.signature import signature
from engine.model.wander.hints import hints, way
from engine.model.wander.places import Places
from engine.runtime.segment.generator import Generator, Job
from engine.runtime.segment.noise import gaussian
from engine.runtime.state.state import SessionState
from engine.training.dit.sampling import sample_segment
from tests.rigs.engine import tiny


@pytest.fixture(scope="module")
def artifact(tiny_artifact: Path) -> Artifact:
    return open_artifact(tiny_artifact)


@pytest.fixture(scope="module")
def reference(artifact: Artifact) -> ReferenceBackend:
    return ReferenceBackend(artifact)


@pytest.fixture
def copy(tiny_artifact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_artifact, tmp_path / "copy"))


@pytest.mark.parametrize("batch", [1, 3])
def test_every_role_answers_in_the_shapes_and_types_of_the_contract(
    reference: ReferenceBackend, batch: int
) -> None:
    rng = np.random.default_rng(1)
    for name, role in signature(reference.spec).items():
        inputs = {t.name: rng.random((batch, *t.shape)).astype(t.dtype) for t in role.inputs}
        outputs = reference.run(name, inputs)
        assert {n: (x.shape, str(x.dtype)) for n, x in outputs.items()} == {
            t.name: ((batch, *t.shape), t.dtype) for t in role.outputs
        }


def test_serving_and_training_sample_alike(artifact: Artifact, reference: ReferenceBackend) -> None:
    """Two implementations of the same Euler steps: arrays for serving, tensors for training."""
    state = SessionState.zeros(artifact.spec)
    generator = Generator(reference)
    generator.conditioner.start_scene(state, "a red fox", seed=3, scene=0)
    latents = generator.denoise([Job(state, 2)])

    def tensor(x: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> torch.Tensor:
        return torch.from_numpy(x)[None]

    inputs = {
        name: tensor(getattr(state, name)) for name in ("psi", "text", "pooled", "image", "history", "anchor")
    }
    inputs |= {name: torch.zeros(1) for name in ("context", "sigma", "index")}
    inputs["actions"] = torch.full((1, artifact.spec.segment), 2)
    c, numbers = tiny.DIT, in_view(0, artifact.spec.segment, artifact.spec)
    assert c.camera is not None
    landmarks = planned(state.landmarks, numbers, state.seed, state.scene, artifact.spec)
    inputs["hints"] = hints(
        inputs["history"],
        inputs["context"],
        where=way(torch.zeros(1).long(), torch.zeros(1, c.segment).long(), inputs["actions"], c),
        places=Places.empty(1, c.channels, c.latent_height, c.camera),
        look=torch.zeros(1),
        landmarks=tensor(landmarks),
        camera=c.camera,
    )
    noise = tensor(gaussian(3, 0, 0, latents.shape[1:]))
    given = denoise_inputs({**inputs, "x": noise, "t": torch.zeros(1), "d": torch.zeros(1)}).given
    expected = sample_segment(load_model(artifact).dit, noise, artifact.spec.first_steps, given)
    np.testing.assert_allclose(latents, expected.numpy(), atol=1e-6)


def test_reconditioning_a_session_folds_its_memories_under_the_new_prompt(
    artifact: Artifact, reference: ReferenceBackend
) -> None:
    generator = Generator(reference)
    changed, model = SessionState.zeros(artifact.spec), load_model(artifact)
    generator.conditioner.start_scene(changed, "a red fox", seed=3, scene=0)
    memories = []
    for _ in range(3):
        latents = generator.denoise([Job(changed, 2)])
        generator.finish([Job(changed, 2)], latents)
        memories.append(model.dit.memorize(torch.from_numpy(latents)))
    generator.conditioner.recondition(changed, "a blue robot, night")
    psi = torch.from_numpy(np.concatenate([changed.text, changed.image]))[None]
    for memory in memories:
        psi = model.dit.squeeze(psi, memory)
    np.testing.assert_allclose(changed.psi, psi[0].numpy(), atol=1e-6)


def test_wrong_shapes_are_a_backend_error_that_names_the_role(reference: ReferenceBackend) -> None:
    with pytest.raises(BackendError, match=r"^squeeze: "):
        reference.run("squeeze", {"psi": np.zeros((1, 3, 3), "f"), "memory": np.zeros((1, 3, 3), "f")})


def test_weights_of_another_shape_are_refused(copy: Path) -> None:
    artifact = open_artifact(copy)
    state = load_file(copy / WEIGHTS)
    state["dit.proj_out.bias"] = torch.zeros(3, dtype=torch.float16)
    save_file(state, copy / WEIGHTS)
    write_manifest(copy, artifact.spec, artifact.config, artifact.graphs)
    with pytest.raises(
        ModelFilesError, match=r"(?s)does not fit the manifest's config: .*proj_out\.bias"
    ) as e:
        load(copy)
    assert e.value.field == WEIGHTS


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"dit": {"depth": 3}, "autoencoder": {}, "text": {}}, "unknown key 'depth'"),
        ({"dit": {}, "text": {}}, "autoencoder"),
        ({"dit": 3, "autoencoder": {}, "text": {}}, "config"),
    ],
)
def test_a_config_that_makes_no_model_is_refused(copy: Path, config: object, said: str) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["config"] = config
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelFilesError, match=said) as e:
        load(copy)
    assert e.value.field == "config"
