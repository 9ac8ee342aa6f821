"""The comparison passes correct backends, catches broken ones, and is recorded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from engine.backends.artifact import Artifact, open_artifact
from engine.backends.base import Arrays
from engine.backends.ort import OrtBackend
from engine.backends.pytorch import TorchBackend
from engine.errors import InvalidInput
from engine.model.signature import signature
from export.cli import main
from export.gates import GATES, Distance, distance, failures, gate
from export.verify.candidates import candidate, pytorch
from export.verify.parity import InputRecorder, broken, controls, permute, resized, shift
from export.verify.record import evidence_of, record
from export.verify.verify import ParityReport, record_inputs, recursion_errors, verify


@pytest.fixture(scope="module")
def artifact(tiny_artifact: Path) -> Artifact:
    return open_artifact(tiny_artifact)


@pytest.fixture(scope="module")
def reference(artifact: Artifact) -> TorchBackend:
    return pytorch(artifact, "fp32")


@pytest.fixture(scope="module")
def report(artifact: Artifact, reference: TorchBackend) -> ParityReport:
    return verify(OrtBackend(artifact, 1), reference, segments=64, batches=(1, 3))


def test_onnx_runtime_stays_within_the_gates_over_64_segments(report: ParityReport) -> None:
    assert report.failures == []
    assert {(r.role, r.batch) for r in report.rows} >= {("denoise", 1), ("denoise", 3), ("squeeze", 3)}
    assert set(report.recursion) == {1, 3}
    assert report.lines()[-1] == "all within the gates"


def test_every_role_is_compared(report: ParityReport, artifact: Artifact) -> None:
    assert {r.role for r in report.rows} == set(signature(artifact.spec))


def test_every_control_is_noticed(report: ParityReport) -> None:
    assert report.blind == ()
    assert len(report.controls) == 6
    assert all(why for _, why in report.controls.values()), report.controls


@pytest.mark.parametrize("spoil", [permute, shift])
def test_a_backend_that_is_broken_is_refused(artifact: Artifact, reference: TorchBackend, spoil: Any) -> None:
    found = verify(broken(reference, "denoise", spoil), reference, segments=2, batches=(1,))
    assert any(line.startswith("denoise velocity, batch 1: relative error") for line in found.failures)
    assert found.to_json()["level"] == "executed"
    assert any(line.startswith("FAILED denoise") for line in found.lines())


class Noisy:
    """Adds noise to the outputs of one role."""

    def __init__(self, inner: TorchBackend, role: str, by: float) -> None:
        self.inner, self.role, self.by = inner, role, by
        self.name, self.spec, self.tokenize, self.close = "noisy", inner.spec, inner.tokenize, inner.close
        self.fingerprint, self.sampler = inner.fingerprint, inner.sampler

    def run(self, role: str, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        out = self.inner.run(role, inputs)
        return {k: v + np.float32(self.by) if role == self.role else v for k, v in out.items()}


def test_a_small_error_of_the_memory_shows_up_in_the_recursion(reference: TorchBackend) -> None:
    worst = recursion_errors(Noisy(reference, "squeeze", 1e-2), reference, 4, 1)
    assert worst["psi"].rel_l2 > 1e-3
    assert recursion_errors(reference, reference, 4, 2)["psi"] == Distance(0.0, 0.0, 1.0)


def test_no_worse_than_twice_pytorchs_own_error(artifact: Artifact, reference: TorchBackend) -> None:
    """The strong gate: this backend's error is within bf16's gate, but too large compared with PyTorch."""
    baseline = pytorch(artifact, "bf16")
    assert (
        verify(baseline, reference, precision="bf16", baseline=baseline, segments=2, batches=(1,)).failures
        == []
    )
    noisy = Noisy(baseline, "squeeze", 0.02)
    found = verify(noisy, reference, precision="bf16", baseline=baseline, segments=2, batches=(1,))
    assert any("PyTorch's own is" in line for line in found.failures)


def test_not_a_number_is_never_within_a_gate(reference: TorchBackend) -> None:
    found = verify(Noisy(reference, "memorize", float("nan")), reference, segments=1, batches=(1,))
    assert any("memorize memory, batch 1: not finite" in line for line in found.failures)


def test_controls_with_hardly_any_effect_are_called_blind(reference: TorchBackend) -> None:
    """A control cannot fail if its effect is smaller than the precision. The report says so."""
    seen = record_inputs(reference)
    wide = Distance(1e9, 1e9, -1.0)
    assert all(not why for _, why in controls(reference, reference, seen, wide).values())


def test_distances_match_their_definitions() -> None:
    b = np.array([3.0, 4.0])
    found = distance(np.array([3.0, 4.5]), b)
    assert found.rel_l2 == pytest.approx(0.1)
    assert found.max_std == pytest.approx(1.0)
    assert distance(b, b).rel_l2 == distance(b, b).max_std == 0
    assert distance(np.zeros(3), np.zeros(3)).rel_l2 == 0
    assert not distance(np.array([np.inf, 1.0]), b).finite
    assert distance(-b, b).cosine == pytest.approx(-1.0)


def test_a_cosine_is_at_most_one_and_exactly_one_for_equal_arrays() -> None:
    """Numerator and denominator are rounded separately: on some processors their ratio exceeds 1 by an
    ulp."""
    for seed in range(200):
        x = np.random.default_rng(seed).standard_normal(977)
        assert distance(x, x) == Distance(0.0, 0.0, 1.0)
        assert 1 - 1e-12 < distance(3 * x, x).cosine <= 1
        assert -1 <= distance(-3 * x, x).cosine < -1 + 1e-12


def test_gates_widen_with_precision_and_unknown_ones_are_refused() -> None:
    order = ["fp32", "fp16", "bf16", "fp8"]
    assert [gate(p).rel_l2 for p in order] == sorted(GATES[p].rel_l2 for p in order)
    with pytest.raises(InvalidInput, match="no gate for precision 'fp4'"):
        gate("fp4")
    assert len(failures(Distance(1.0, 9.0, 0.1), gate("fp32"), Distance(0.1, 1, 1))) == 4


def test_recorded_inputs_are_copies_and_grow_to_any_batch(reference: TorchBackend) -> None:
    recorder = InputRecorder(reference)
    segment = np.ones((1, *signature(reference.spec)["memorize"].inputs[0].shape), np.float32)
    recorder.run("memorize", {"segment": segment})
    segment[:] = 0
    assert recorder.seen["memorize"]["segment"].all()
    assert resized(recorder.seen["memorize"], 3)["segment"].shape[0] == 3


def test_evidence_is_written_once_per_backend_and_device(
    tiny_artifact: Path, tmp_path: Path, report: ParityReport
) -> None:
    folder = Path(shutil.copytree(tiny_artifact, tmp_path / "copy"))
    record(open_artifact(folder), report)
    record(open_artifact(folder), report)
    (found,) = open_artifact(folder).evidence
    assert (found["level"], found["backend"], found["failures"]) == ("parity", "onnxruntime", [])
    assert found == json.loads(json.dumps(evidence_of(report)))
    assert found["version"][0].isdigit()


def test_the_command_compares_prints_and_records(
    tiny_artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(tiny_artifact, tmp_path / "copy"))
    assert main(["verify", str(folder), "--segments", "3", "--batch", "2", "--record"]) == 0
    out = capsys.readouterr().out
    assert "all within the gates" in out
    assert "control, history dropped" in out
    assert open_artifact(folder).evidence[0]["segments"] == 3


def test_an_unknown_backend_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--backend", "abacus"]) == 2
    assert "'abacus' is not one of onnxruntime, cuda, tensorrt" in capsys.readouterr().err
    assert candidate("onnxruntime", open_artifact(None)).name == "onnxruntime"


def test_pytorch_in_half_precision_keeps_the_exact_roles(artifact: Artifact, reference: TorchBackend) -> None:
    low = pytorch(artifact, "fp16")
    assert low.modules["decode"].state_dict().keys() == reference.modules["decode"].state_dict().keys()
    kinds = {p.dtype for p in low.modules["denoise"].parameters()}
    assert kinds == {torch.float16}
    assert {p.dtype for p in low.modules["decode"].parameters()} == {torch.float32}
