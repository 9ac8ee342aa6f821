"""`psistream export selftest`: checks a user's machine with one command. It builds engines, runs and compares
every available backend, measures them, records the results, and prints a table to paste into an issue. The
table also lists what could not be executed."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from engine.backends.artifact import Artifact
from engine.backends.base import Backend
from engine.backends.gpu import engine_files as engines
from engine.backends.gpu.driver import cuda_device
from engine.backends.gpu.tensorrt_api import load_api
from engine.errors import PsistreamError, Unavailable
from export.tensorrt.build import EnginePlan, build, parsed, precision_for
from export.verify.candidates import PRECISION, candidate, compared, opened, pytorch
from export.verify.parity import resized
from export.verify.record import evidence_of, record_engine, where
from export.verify.verify import ParityReport, record_inputs

Load = Callable[[str, Artifact], Backend]
REPEATS = 20
AHEAD = "sm89"  # target to build for without a device, to check the builder


@dataclass
class Findings:
    """The lines of the table, and the same data for machines."""

    rows: list[tuple[str, str, str]] = field(default_factory=list)  # part, outcome, figures
    data: dict[str, Any] = field(default_factory=dict)
    failed: bool = False

    def add(self, part: str, outcome: str, figures: str = "") -> None:
        self.rows.append((part, outcome, figures))
        print(f"{part}: {outcome} {figures}".rstrip(), flush=True)

    def table(self) -> str:
        head = f"psistream selftest, {where()}, Python {platform.python_version()}, {platform.system()}"
        versions = ", ".join(f"{n} {v}" for n in PACKAGES if (v := version(n)))
        lines = ["```", head, versions]
        lines += [f"{part:28s} {outcome:14s} {figures}".rstrip() for part, outcome, figures in self.rows]
        return "\n".join([*lines, "```"])


PACKAGES = ("psistream", "torch", "onnxruntime", "tensorrt", "tensorrt-rtx")


def version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def run(
    folder: Path | None,
    *,
    segments: int,
    batch: int,
    out: Path | None = None,
    load: Load = candidate,
) -> int:
    """The exit status. Parts that this machine cannot run do not count as failures. `load` makes a backend
    from its name."""
    artifact, findings = opened(folder), Findings()
    device = attempt(findings, "CUDA device", lambda: where() if cuda_device() else "")
    try_engines(findings, artifact, batch, on_device=device is not None)
    names = ["onnxruntime", *(["cuda", "tensorrt"] if device is not None else [])]
    for name in names:
        try_backend(findings, artifact, name, segments, batch, load)
    for name in ("cuda", "tensorrt"):
        if device is None:
            findings.add(f"{name} backend", "not executed", "no CUDA device")
    print(findings.table())
    if out is not None:
        out.write_text(json.dumps({"machine": where(), "parts": findings.rows, **findings.data}, indent=1))
    return 1 if findings.failed else 0


def attempt(findings: Findings, part: str, what: Callable[[], str]) -> str | None:
    """Run one part and record its result. Returns None if this machine cannot run it, or if it failed."""
    try:
        result = what()
    except Unavailable as e:
        findings.add(part, "not here", e.message)
    except (PsistreamError, ModuleNotFoundError) as e:
        findings.add(part, "FAILED", str(e))
        findings.failed = True
    else:
        findings.add(part, "ok", result)
        return result
    return None


def try_engines(findings: Findings, artifact: Artifact, batch: int, *, on_device: bool) -> None:
    """Parse every graph and build its engine for this device, or ahead of time without a device."""
    try:
        api = load_api()
    except Unavailable as e:
        findings.add("TensorRT", "not here", e.message)
        return
    for graph in artifact.graphs:
        part = f"parse {graph.role} {graph.precision}"

        def parse(role: str = graph.role, precision: str = graph.precision) -> str:
            layers = parsed(artifact, role, precision, api.name).layers or {}
            return f"{sum(layers.values())} layers"

        attempt(findings, part, parse)
    if not on_device and not api.rtx:
        findings.add("build engines", "not executed", f"{api.name} builds on a device only")
        return
    there = {g.precision for g in artifact.graphs}
    low = "bf16" if "bf16" in there else "fp32"
    for role in dict.fromkeys(g.role for g in artifact.graphs):
        plan = EnginePlan(
            role, precision_for(artifact, role, low), "here" if on_device else AHEAD, (1, batch, batch)
        )

        def make(plan: EnginePlan = plan) -> str:
            engine, cached = build(artifact, plan, cache=engines.cache_folder(), backend=api.name)
            how = "in the cache" if cached else f"{engine.build_s:.0f} s"
            return f"{how}, {engine.bytes / 2**20:.1f} MiB, {engine.inputs.target}"

        attempt(findings, f"build {role} {plan.precision}", make)


def try_backend(
    findings: Findings, artifact: Artifact, name: str, segments: int, batch: int, load: Load
) -> None:
    """Load a backend, compare it and measure its speed."""
    loaded: list[Backend] = []

    def start() -> str:
        began = time.monotonic()
        loaded.append(load(name, artifact))
        return f"{time.monotonic() - began:.1f} s"

    if attempt(findings, f"{name}: load", start) is None:
        return
    backend, precision = loaded[0], precision_here(name, artifact)

    def compare() -> str:
        report = compared(backend, name, artifact, precision, segments=segments, batch=batch)
        findings.data[f"{name} parity"] = report.to_json()
        record_evidence(artifact, name, report)
        if report.failures:
            raise PsistreamError("; ".join(report.failures))
        worst = max(row.found.rel_l2 for row in report.rows)
        state = "psi" if artifact.spec.memory else "history"
        drift = max(d[state].rel_l2 for d in report.recursion.values())
        return f"roles {worst:.1e}, {state} after {segments} segments {drift:.1e} ({precision})"

    attempt(findings, f"{name}: parity", compare)
    attempt(findings, f"{name}: speed", lambda: speed(findings, artifact, backend, batch))
    backend.close()


def precision_here(name: str, artifact: Artifact) -> str:
    """The precision in which a backend runs this folder. TensorRT uses the lowest precision of its graphs."""
    if name == "tensorrt" and not any(g.precision == "bf16" for g in artifact.graphs):
        return "fp32"
    return PRECISION[name]


def record_evidence(artifact: Artifact, name: str, report: ParityReport) -> None:
    """Write the result into the records of the engines that were compared."""
    if name != "tensorrt":
        return
    api = load_api()
    evidence = evidence_of(report)
    for record in (engines.cache_folder() / artifact.spec.name).glob("*/*.json"):
        engine = engines.read(record)
        if (engine.inputs.target, engine.inputs.version) == (cuda_device().target, api.version):
            record_engine(record, evidence)


def speed(findings: Findings, artifact: Artifact, backend: Backend, batch: int) -> str:
    """Milliseconds per call with numpy inputs and outputs: the median of 20 calls after warm-up."""
    seen = record_inputs(pytorch(artifact, "fp32"))
    figures: dict[str, float] = {}
    for size in sorted({1, batch}):
        for role in (
            *artifact.spec.denoise_roles,
            *(r for r in ("decode", "memorize", "squeeze") if r in seen),
        ):
            given = {n: np.ascontiguousarray(x) for n, x in resized(seen[role], size).items()}
            for _ in range(3):
                backend.run(role, given)
            times = []
            for _ in range(REPEATS):
                began = time.perf_counter()
                backend.run(role, given)
                times.append(1e3 * (time.perf_counter() - began))
            figures[f"{role} x{size}"] = round(statistics.median(times), 2)
    findings.data[f"{backend.name} ms"] = figures
    return ", ".join(f"{name} {ms:g} ms" for name, ms in figures.items())
