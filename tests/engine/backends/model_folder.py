"""A small model's folder, and ways to spoil it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from engine.backends.artifact import (
    Graph,
    described,
    open_artifact,
)
from engine.errors import ModelFilesError
from engine.model.signature import signature
from tests.rigs.engine import tiny

SPEC = tiny.world_model().spec(name="tiny", fps=16, steps=2, first_steps=3)

DECODE = signature(SPEC)["decode"]

GRAPH = Graph(
    role="decode",
    file="decode.onnx",
    precision="fp32",
    opset=23,
    ir_version=10,
    nodes=0,
    operators={},
    inputs=described(DECODE.inputs),
    outputs=described(DECODE.outputs),
)


def pointing_at(location: str) -> bytes:
    """A graph with one weight, outside it."""
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[1])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="length", value="4")
    data: bytes = onnx.ModelProto(graph=onnx.GraphProto(initializer=[tensor])).SerializeToString()
    return data


def refused(folder: Path, match: str) -> ModelFilesError:
    with pytest.raises(ModelFilesError, match=match) as e:
        open_artifact(folder)
    return e.value


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = folder / "manifest.json"
    data = json.loads(manifest.read_text())
    change(data)
    manifest.write_text(json.dumps(data))
