"""Descriptions of folders, graphs, records and models, and the exact operator counts of the shipped
graphs."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.backends.artifact import Artifact, open_artifact
from engine.model.wander.world_model import WorldModelConfig
from export.cli import main
from export.inspect import inspect
from tests.engine.backends.test_engines import artifact, record

__all__ = ["artifact", "record"]  # fixtures


def test_the_shipped_graphs_hold_the_operators_that_their_blocks_have() -> None:
    """The counts follow from the shipped model's config: one more or less is another network."""
    shipped = open_artifact(None)
    config = WorldModelConfig.from_json(shipped.config).dit
    double, single, layers = config.double_blocks, config.single_blocks, config.memory.layers
    denoise = shipped.graph("denoise").operators
    assert denoise["Attention"] == double + single
    assert denoise["RMSNormalization"] == 4 * double + 2 * single
    assert denoise["LayerNormalization"] == 4 * double + single + 1
    memorize, squeeze = shipped.graph("memorize").operators, shipped.graph("squeeze").operators
    assert (memorize["Attention"], memorize["RMSNormalization"]) == (layers + 1, 2 * (layers + 1))
    assert (squeeze["Attention"], squeeze["RMSNormalization"], squeeze["LayerNormalization"]) == (1, 2, 4)


def test_a_new_export_uses_rotations_and_nothing_that_loops(tiny_artifact: Path) -> None:
    denoise = open_artifact(tiny_artifact).graph("denoise").operators
    assert denoise["RotaryEmbedding"] == 4
    assert denoise["Attention"] == 2
    for graph in open_artifact(tiny_artifact).graphs:
        assert not {"Loop", "If", "Scan", "SequenceAt", "Constant"} & set(graph.operators), graph.role


def test_a_folder_is_described_graph_by_graph(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "wander"]) == 0
    out = capsys.readouterr().out
    assert "wander: 9 graphs" in out
    assert "RMSNormalization" in out
    assert "evidence:" in out


def test_a_graph_is_described_by_its_tensors_and_operators(tiny_artifact: Path) -> None:
    said = "\n".join(inspect(str(tiny_artifact / "squeeze.onnx")))
    assert "opset 23" in said
    assert "weights in model.safetensors" in said
    assert "in   psi          float32  ['batch', 10, 32]" in said
    assert "1 Attention" in said


def test_an_engine_is_described_by_its_record(record: Path, artifact: Artifact) -> None:
    said = "\n".join(inspect(str(record)))
    assert "tiny decode: tensorrt 11.4.0.106, sm90, fp32" in said
    assert "level of evidence: built" in said


def test_a_full_size_model_is_described_by_its_shapes() -> None:
    said = inspect("memorypack-1b3")
    assert said[0].startswith("memorypack-1b3: 1.40 billion parameters")
    assert any("velocity [1, 3, 16, 60, 104]" in line for line in said)


def test_anything_else_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tmp_path / "nothing")]) == 2
    assert "is neither a folder, a graph, an engine's record nor one of wander" in capsys.readouterr().err
    (tmp_path / "x.onnx").write_bytes(b"not a graph")
    assert main(["inspect", str(tmp_path / "x.onnx")]) == 2
    assert "is not an ONNX file" in capsys.readouterr().err
