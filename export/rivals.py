"""The backends that can be compared, by name, and PyTorch in each precision."""

from __future__ import annotations

import importlib
from pathlib import Path

import torch

from engine.backends.artifact import Artifact
from engine.backends.base import Backend
from engine.backends.reference import ReferenceBackend, TorchBackend, load_model
from engine.errors import InvalidInput
from engine.model.precision import dtype, low_roles, lowered
from engine.model.signature import signature

MODULES = {  # each has load(path)
    "onnxruntime": "engine.backends.ort",
    "cuda": "engine.backends.cuda",
    "tensorrt": "engine.backends.tensorrt",
}
PRECISION = {"onnxruntime": "fp32", "cuda": "bf16", "tensorrt": "bf16"}


def candidate(name: str, path: Path | None) -> Backend:
    """Raises InvalidInput, Unavailable, ModelFilesError."""
    if name not in MODULES:
        raise InvalidInput(f"--backend: {name!r} is not one of {', '.join(MODULES)}", field="backend")
    found: Backend = importlib.import_module(MODULES[name]).load(path)
    return found


def pytorch(artifact: Artifact, precision: str) -> TorchBackend:
    """PyTorch on the CPU, in fp32 or with the roles that may be in `precision`."""
    exact = ReferenceBackend(artifact)
    if precision == "fp32":
        return exact
    kind, spec = dtype(precision), artifact.spec
    names = {role: [t.name for t in r.inputs] for role, r in signature(spec).items()}
    low = low_roles(lowered(load_model(artifact), kind).roles(spec), names, kind)
    return TorchBackend(
        f"pytorch {precision}", spec, {**exact.modules, **low}, exact.tokenize, torch.device("cpu")
    )
