"""What only a device can show: recorded calls equal unrecorded ones, the device's backends equal the
reference within the gates, engines run. `python -m pytest -m gpu`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.backends.artifact import open_artifact
from engine.backends.gpu.cuda import DeviceBackend, load, module_bodies, world_modules
from engine.backends.gpu.engine_files import cache_folder
from engine.backends.pytorch import ReferenceBackend
from engine.backends.registry import load_backend
from engine.model.signature import signature
from export.gates import distance, gate
from export.tensorrt.build import EnginePlan, build

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]


def inputs(path: Path, role: str, batch: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        t.name: np.zeros((batch, *t.shape), t.dtype)
        if t.dtype != "float32"
        else rng.random((batch, *t.shape), np.float32)
        for t in signature(open_artifact(path).spec)[role].inputs
    }


def unrecorded(path: Path) -> DeviceBackend:
    artifact = open_artifact(path)
    modules = world_modules(path, torch.device("cuda"), torch.float32)
    bodies = module_bodies(artifact.spec, modules, compiled=False)
    reference = ReferenceBackend(artifact)
    return DeviceBackend(
        "cuda", artifact.spec, bodies, reference.tokenize, torch.device("cuda"), record=False
    )


@pytest.mark.parametrize("batch", [1, 4])
def test_a_recorded_call_equals_an_unrecorded_one(tiny_artifact: Path, batch: int) -> None:
    plain, recorded = unrecorded(tiny_artifact), unrecorded(tiny_artifact)
    recorded.record = True
    for role in signature(plain.spec):
        given = inputs(tiny_artifact, role, batch)
        a = plain.run(role, given)
        for _ in range(3):
            b = recorded.run(role, given)
            for name, x in a.items():
                np.testing.assert_array_equal(x, b[name], err_msg=f"{role}: {name}")


@pytest.mark.parametrize("batch", [1, 4])
def test_the_compiled_backend_equals_the_reference_within_its_gate(tiny_artifact: Path, batch: int) -> None:
    device, reference = load(tiny_artifact), ReferenceBackend(open_artifact(tiny_artifact))
    for role in signature(device.spec):
        given = inputs(tiny_artifact, role, batch)
        a, b = device.run(role, given), reference.run(role, given)
        for name, x in a.items():
            if x.dtype == np.float32:
                assert distance(x, b[name]).rel_l2 <= gate("bf16").rel_l2, f"{role}: {name}"


def test_engines_built_here_run_and_equal_the_reference(
    tiny_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("PSISTREAM_ENGINES", str(tmp_path / "engines"))
    artifact = open_artifact(tiny_artifact)
    for role in signature(artifact.spec):
        build(artifact, EnginePlan(role), cache=cache_folder())
    device = load_backend("tensorrt", tiny_artifact)
    reference = ReferenceBackend(artifact)
    for batch in (1, 4):
        for role in signature(artifact.spec):
            given = inputs(tiny_artifact, role, batch)
            a, b = device.run(role, given), reference.run(role, given)
            for name, x in a.items():
                if x.dtype == np.float32:
                    assert distance(x, b[name]).rel_l2 <= 1e-3, f"{role}: {name}"  # TF32 is the library's
