"""What is said of folders, graphs, records and models; the golden counts of the shipped operators."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.backends.artifact import Artifact, open_artifact
from export.cli import main
from export.inspect import inspect
from tests.test_backends_engines import artifact, record

__all__ = ["artifact", "record"]  # fixtures

# Attention, RMSNormalization, LayerNormalization, Conv of each role; more blocks would show here
SHIPPED = {
    "encode_text": (0, 6, 9, 0),
    "encode_image": (0, 0, 1, 9),
    "embed_image": (0, 0, 1, 0),
    "initial_memory": (0, 0, 0, 0),
    "memorize": (2, 4, 6, 0),
    "squeeze": (1, 2, 4, 0),
    "denoise": (6, 16, 13, 0),
    "decode": (0, 0, 0, 11),
}


def test_the_shipped_graphs_hold_the_operators_that_they_should() -> None:
    names = ("Attention", "RMSNormalization", "LayerNormalization", "Conv")
    found = {g.role: tuple(g.operators.get(n, 0) for n in names) for g in open_artifact(None).graphs}
    assert found == SHIPPED


def test_a_new_export_uses_rotations_and_nothing_that_loops(tiny_artifact: Path) -> None:
    denoise = open_artifact(tiny_artifact).graph("denoise").operators
    assert denoise["RotaryEmbedding"] == 4
    assert denoise["Attention"] == 2
    for graph in open_artifact(tiny_artifact).graphs:
        assert not {"Loop", "If", "Scan", "SequenceAt", "Constant"} & set(graph.operators), graph.role


def test_a_folder_is_told_graph_by_graph(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "wander"]) == 0
    out = capsys.readouterr().out
    assert "wander: 8 graphs" in out
    assert "6 Attention, 16 RMSNormalization" in out
    assert "evidence:" in out


def test_a_graph_is_told_with_its_tensors_and_operators(tiny_artifact: Path) -> None:
    said = "\n".join(inspect(str(tiny_artifact / "squeeze.onnx")))
    assert "opset 23" in said
    assert "weights in model.safetensors" in said
    assert "in   psi          float32  ['batch', 10, 32]" in said
    assert "1 Attention" in said


def test_an_engine_is_told_by_its_record(record: Path, artifact: Artifact) -> None:
    said = "\n".join(inspect(str(record)))
    assert "tiny decode: tensorrt 11.4.0.106, sm90, fp32" in said
    assert "known so far: built" in said


def test_a_full_size_model_is_told_by_its_shapes() -> None:
    said = inspect("memorypack-1b3")
    assert said[0].startswith("memorypack-1b3: 1.40 billion parameters")
    assert any("velocity [1, 3, 16, 60, 104]" in line for line in said)


def test_what_is_nothing_of_these_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tmp_path / "nothing")]) == 2
    assert "is neither a folder, a graph, an engine's record nor one of wander" in capsys.readouterr().err
    (tmp_path / "x.onnx").write_bytes(b"not a graph")
    assert main(["inspect", str(tmp_path / "x.onnx")]) == 2
    assert "is not an ONNX file" in capsys.readouterr().err
