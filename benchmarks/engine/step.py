"""`psistream bench step`: times each of the model's functions, alone and in batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.machine import description
from benchmarks.report import BenchReport, percentile
from engine.backends.base import Backend
from engine.model.signature import ModelSpec, Tensor, signature

ROLE_S = 30.0  # limit for one function at one batch size


def measure(backend: Backend, batches: Sequence[int], n: int) -> BenchReport:
    """Raises BackendError."""
    spec = backend.spec
    report = BenchReport(
        "step", description(), {"model": spec.name, "backend": backend.name, "n": n, "steps": spec.steps}
    )
    rows = report.tables["milliseconds"] = []
    for role, contract in signature(spec).items():
        for batch in batches:
            given = {t.name: _some(t, batch) for t in contract.inputs}
            times_ms = times_taken_ms(n, partial(backend.run, role, given))
            middle_ms = percentile(times_ms, 0.5)
            rows.append(
                {
                    "function": role,
                    "rows": batch,
                    "call p50": round(middle_ms, 3),
                    "call p95": round(percentile(times_ms, 0.95), 3),
                    "least": round(min(times_ms), 3),
                    "per row": round(middle_ms / batch, 3),
                    "n": len(times_ms),
                }
            )
    for batch in batches:
        segment_ms = _segment_ms(rows, batch, spec)
        rate = 1000 * spec.segment_s / segment_ms if segment_ms else float("inf")
        report.singles[f"segment of one session, {batch} in a batch"] = (round(segment_ms, 2), "ms")
        if segment_ms:
            report.singles[f"sessions that would take all of the device, {batch} in a batch"] = (
                round(rate, 2),
                "",
            )
    report.notes.append(
        f"A segment is {spec.steps} denoise steps, decode, memorize and squeeze, by the medians per row; "
        f"it plays for {1000 * spec.segment_s:g} ms."
    )
    return report


def _segment_ms(rows: Sequence[dict[str, Any]], batch: int, spec: ModelSpec) -> float:
    each = {r["function"]: float(r["per row"]) for r in rows if r["rows"] == batch}
    denoise_ms = sum(count * each[role] for role, count in spec.calls.items())
    return denoise_ms + sum(each.get(role, 0.0) for role in ("decode", "memorize", "squeeze"))


def times_taken_ms(
    n: int, call: Callable[[], object], after: Callable[[], object] = lambda: None
) -> list[float]:
    """Milliseconds of `call`, after one call for warm-up; `after` runs untimed after each."""
    times_ms: list[float] = []
    begun_s = time.perf_counter()
    call()
    after()
    while len(times_ms) < n and (not times_ms or time.perf_counter() - begun_s < ROLE_S):
        start_s = time.perf_counter()
        call()
        times_ms.append(1000 * (time.perf_counter() - start_s))
        after()
    return times_ms


def _some(t: Tensor, batch: int) -> npt.NDArray[Any]:
    """Inputs of the right shapes: noise, half-way times, ones for masks and ids."""
    shape = (batch, *t.shape)
    if t.name in ("t", "d", "sigma"):
        return np.full(shape, 0.5, t.dtype)
    if t.dtype == "float32" and not t.name.endswith("mask"):
        return np.random.Generator(np.random.Philox(1)).standard_normal(shape, np.float32)
    return np.ones(shape, t.dtype)
