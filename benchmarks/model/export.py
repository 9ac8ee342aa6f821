"""`psistream bench export`: the denoiser on a CPU in ONNX Runtime (fp32 and 8 bits), in OpenVINO if it is
installed, and in PyTorch, interleaved in one run; and the size of each graph. The ratios to PyTorch eager are
what counts.
"""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.machine import description
from benchmarks.model.int8 import quantize
from benchmarks.report import BenchReport
from engine.backends.artifact import Artifact, open_artifact
from engine.model.signature import signature
from export.gates import distance
from export.verify.candidates import pytorch
from export.verify.parity import RoleInputs, resized
from export.verify.verify import record_inputs

COMPILED = "PyTorch compiled"

Run = Callable[[RoleInputs], npt.NDArray[Any]]


def session(path: Path, threads: int) -> Run:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    made = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(given: RoleInputs) -> npt.NDArray[Any]:
        velocity: npt.NDArray[Any] = made.run(None, given)[0]
        return velocity

    return run


def openvino(path: Path, threads: int) -> Run | None:
    try:
        ov: Any = importlib.import_module("openvino")
    except ImportError:
        return None
    compiled = ov.Core().compile_model(str(path), "CPU", {"INFERENCE_NUM_THREADS": threads})
    request = compiled.create_infer_request()

    def run(given: RoleInputs) -> npt.NDArray[Any]:
        velocity: npt.NDArray[Any] = request.infer(given, share_inputs=True)["velocity"]
        return velocity

    return run


def compiler() -> str | None:
    """The C++ compiler that torch.compile needs on a CPU."""
    names = [os.environ.get("CXX", ""), "g++", "clang++"]
    return next((found for name in names if name and (found := shutil.which(name))), None)


def runners(artifact: Artifact, threads: int, work: Path, *, compiled: bool) -> tuple[dict[str, Run], Any]:
    import torch

    torch.set_num_threads(threads)
    reference = pytorch(artifact, "fp32")
    names = signature(artifact.spec)["denoise"].input_names

    def in_torch(module: Callable[..., Any]) -> Run:
        @torch.inference_mode()
        def run(given: RoleInputs) -> npt.NDArray[Any]:
            velocity: npt.NDArray[Any] = module(*(torch.from_numpy(given[n]) for n in names)).numpy()
            return velocity

        return run

    graph, small = artifact.file(artifact.graph("denoise").file), work / "denoise.int8.onnx"
    quantize(graph, small)
    found = {
        "PyTorch eager": in_torch(reference.modules["denoise"]),
        "ONNX Runtime fp32": session(graph, threads),
        "ONNX Runtime int8": session(small, threads),
    }
    other = openvino(graph, threads)
    if other is not None:
        found["OpenVINO fp32"] = other
    if compiled:
        found[COMPILED] = in_torch(torch.compile(reference.modules["denoise"], dynamic=False))
    return found, reference


def measure(
    path: Path | None, threads: int, rounds: int, batches: Sequence[int], compiled: bool
) -> BenchReport:
    artifact = open_artifact(path)
    settings = {"model": artifact.spec.name, "threads": threads, "rounds": rounds}
    report = BenchReport("export", description(), settings)
    if not compiled:
        report.notes.append("PyTorch compiled: not measured; --compiled adds it")
    elif compiler() is None:
        report.notes.append("PyTorch compiled: not measured, there is no C++ compiler (apt install g++)")
        compiled = False
    for g in artifact.graphs:
        kib = artifact.file(g.file).stat().st_size / 1024
        report.singles[f"{g.role} {g.precision}, {g.nodes} nodes"] = (kib, "KiB")
    with tempfile.TemporaryDirectory() as work:
        found, reference = runners(artifact, threads, Path(work), compiled=compiled)
        seen = record_inputs(reference)
        for batch in batches:
            given = resized(seen["denoise"], batch)
            expected = found["PyTorch eager"](given)
            for name, run in found.items():
                began = time.perf_counter()
                error = distance(run(given), expected).rel_l2  # also compiles and warms up
                if name == COMPILED:
                    took_s = round(time.perf_counter() - began, 1)
                    report.singles[f"{name}, batch {batch}, first call"] = (took_s, "s")
                report.singles[f"{name}, batch {batch}, relative error"] = (1e6 * error, "e-6")
            times: dict[str, list[float]] = {name: [] for name in found}
            for _ in range(rounds):
                for name, run in found.items():
                    began = time.perf_counter()
                    run(given)
                    times[name].append(1e3 * (time.perf_counter() - began))
            base = float(np.median(times["PyTorch eager"]))
            for name, each in times.items():
                report.series[f"{name}, batch {batch}"] = each
                ratio = base / float(np.median(each))
                report.singles[f"{name}, batch {batch}, speed"] = (round(ratio, 2), "x PyTorch eager")
    return report
