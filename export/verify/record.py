"""Records the result of a comparison in a manifest or in an engine's record."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from engine.backends.artifact import Artifact, write_manifest
from engine.backends.gpu import engine_files as engines
from engine.backends.gpu.driver import cuda_device
from engine.errors import Unavailable
from export.verify.verify import ParityReport

PACKAGES = {"cuda": "torch", "tensorrt_rtx": "tensorrt-rtx"}  # otherwise the backend's own name


def where() -> str:
    """The name of this machine's device."""
    try:
        device = cuda_device()
    except Unavailable:
        return platform.processor() or platform.machine()
    return f"{device.name} ({device.target}), driver {device.driver}"


def evidence_of(report: ParityReport) -> dict[str, Any]:
    """The report with the backend's version and the device, for a manifest or an engine's record."""
    name = report.backend.split()[0]
    try:
        version = metadata.version(PACKAGES.get(name, name))
    except metadata.PackageNotFoundError:
        version = "unknown"
    device = platform.machine() if name == "onnxruntime" else where()
    return {**report.to_json(), "backend": name, "version": version, "device": device}


def record(artifact: Artifact, report: ParityReport) -> None:
    """Record a result in the folder's manifest, replacing one of the same backend, version and device."""
    new = evidence_of(report)
    kept = [e for e in artifact.evidence if not _same(e, new)]
    write_manifest(
        artifact.path, artifact.spec, artifact.config, artifact.graphs, artifact.tools, [*kept, new]
    )


def record_engine(record: Path, new: Mapping[str, Any]) -> None:
    """Record a result in an engine's record, replacing one of the same backend, version and device."""
    engine = engines.read(record)
    kept = [e for e in engine.evidence if not _same(e, new) or e.get("level") == "built"]
    engines.write(record, replace(engine, evidence=(*kept, dict(new))))


def _same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return all(a.get(key) == b.get(key) for key in ("backend", "version", "device", "precision"))
