"""The backends that can be compared, by name, and PyTorch in each precision."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

import torch

from engine.backends.artifact import NEEDED, Artifact, open_artifact, read_manifest
from engine.backends.base import Backend
from engine.backends.gpu.driver import cuda_device
from engine.backends.pytorch import ReferenceBackend, TorchBackend, load_model
from engine.errors import InvalidInput
from engine.model.graphs import SHARED, graph_of
from engine.model.precision import dtype, low_roles, lowered, precision_of
from engine.model.signature import signature
from export import graph_backend
from export.framepack import reference as framepack
from export.helios import reference as helios
from export.verify.verify import ParityReport, verify

MODULES = {  # each has load(path)
    "onnxruntime": "engine.backends.ort",
    "cuda": "engine.backends.gpu.cuda",
    "tensorrt": "engine.backends.gpu.tensorrt",
}
PRECISION = {"onnxruntime": "fp32", "cuda": "bf16", "tensorrt": "bf16"}


def opened(path: Path | None) -> Artifact:
    """Open an exported folder, built-in kind or full-size. Raises ModelFilesError."""
    _, data = read_manifest(path)
    return open_artifact(path, needs=() if "preset" in dict(data.get("config") or {}) else NEEDED)


def is_full(artifact: Artifact) -> bool:
    return "preset" in artifact.config


def candidate(name: str, artifact: Artifact) -> Backend:
    """The backend `name` for this folder. Raises InvalidInput, Unavailable, ModelFilesError."""
    if name not in MODULES:
        raise InvalidInput(f"--backend: {name!r} is not one of {', '.join(MODULES)}", field="backend")
    if is_full(artifact):
        return graph_backend.candidate(name, artifact, pytorch)
    found: Backend = importlib.import_module(MODULES[name]).load(artifact.path)
    return found


def pytorch(artifact: Artifact, precision: str) -> TorchBackend:
    """PyTorch in fp32, or with the roles that can run in `precision`; the built-in kind of model runs on the
    CPU."""
    if is_full(artifact):
        make = helios.pytorch if helios.is_helios(artifact) else framepack.pytorch
        return make(artifact, precision)
    exact = ReferenceBackend(artifact)
    if precision == "fp32":
        return exact
    kind, spec = dtype(precision), artifact.spec
    low = low_roles(lowered(load_model(artifact), kind).roles(spec), signature(spec), kind)
    return TorchBackend(
        f"pytorch {precision}", spec, {**exact.modules, **low}, exact.tokenize, torch.device("cpu")
    )


def precisions(artifact: Artifact, precision: str) -> dict[str, str]:
    """Role → the precision that it computes in when `precision` is compared."""
    if precision == "fp8":  # only the denoiser has it
        low = precisions(artifact, "bf16")
        return {role: "fp8" if graph_of(role) == SHARED else kind for role, kind in low.items()}
    if is_full(artifact):
        which = helios.precisions if helios.is_helios(artifact) else framepack.precisions
        return which(artifact, precision)
    return {role: precision_of(role, precision) for role in signature(artifact.spec)}


def compared(
    backend: Backend, name: str, artifact: Artifact, precision: str, *, segments: int, batch: int
) -> ParityReport:
    """Compare the backend `name` with PyTorch in fp32, and in `precision` where a CPU has it."""
    return verify(
        backend,
        pytorch(artifact, "fp32"),
        precision=precision,
        baseline=pytorch(artifact, precision) if precision in ("bf16", "fp16") else None,
        segments=segments,
        batches=edges(name, artifact, batch),
        precisions=precisions(artifact, precision),
    )


def edges(name: str, artifact: Artifact, batch: int) -> Sequence[int]:
    """Batch sizes to compare: one and `batch`; for engines, the minimum, optimum and maximum of their
    profiles that all engines support."""
    if name != "tensorrt":
        return sorted({1, batch})
    from engine.backends.gpu.tensorrt import fitting

    _, chosen = fitting(artifact, cuda_device().target)
    profiles = [engine.inputs.batch for engine, _ in chosen.values()]
    least, most = max(p[0] for p in profiles), min(p[2] for p in profiles)
    return sorted({n for p in profiles for n in p if least <= n <= most})
