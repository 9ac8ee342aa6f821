"""Describes graphs for a manifest, from the graphs themselves, and rewrites manifests of the first format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from engine.backends.artifact import BATCH, Graph, check_files, check_graph, read_manifest, write_manifest
from engine.errors import ModelFilesError
from engine.model.graphs import STAGE
from engine.model.signature import ModelSpec
from export.graph import census

TOOLS = ("psistream", "torch", "onnx", "onnxscript", "onnx-ir")
DTYPES: dict[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.INT64: "int64",
    TensorProto.UINT8: "uint8",
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
}


def tools() -> dict[str, str]:
    """Versions of the tools that made a graph."""
    found = {}
    for name in TOOLS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def describe(role: str, precision: str, file: str, model: onnx.ModelProto) -> Graph:
    """The manifest's entry for a graph."""
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    return Graph(
        role=role,
        file=file,
        precision=precision,
        opset=opset,
        ir_version=model.ir_version,
        nodes=len(model.graph.node),
        operators=census(model),
        inputs=_tensors(model.graph.input),
        outputs=_tensors(model.graph.output),
    )


def _tensors(values: Iterable[onnx.ValueInfoProto]) -> list[dict[str, Any]]:
    found = []
    for value in values:
        kind = value.type.tensor_type
        sizes: list[int | str] = [d.dim_param or d.dim_value for d in kind.shape.dim]
        found.append(
            {
                "name": value.name,
                "dtype": DTYPES.get(kind.elem_type, f"type {kind.elem_type}"),
                "shape": [(STAGE if n else BATCH) if isinstance(s, str) else s for n, s in enumerate(sizes)],
            }
        )
    return found


def upgrade(folder: Path) -> int:
    """Rewrite a manifest of format 1 after checking its files. Returns the number of graphs.

    Raises ModelFilesError if a file was changed, or if a graph does not match the contract."""
    _, data = read_manifest(folder)
    if data["format"] != 1:
        raise ModelFilesError(
            f"{folder}: its manifest has format {data['format']}; only format 1 can be rewritten",
            field="format",
        )
    check_files(folder, data["files"])
    try:
        roles: Mapping[str, str] = dict(data["roles"])
        spec, config = ModelSpec.from_json(data["spec"]), dict(data["config"])
    except (ValueError, KeyError, TypeError) as e:
        raise ModelFilesError(
            f"{folder}: not a manifest ({e}); `psistream export onnx` exports it again", field="model"
        ) from e
    graphs = [
        describe(role, "fp32", file, onnx.load(folder / file, load_external_data=False))
        for role, file in roles.items()
    ]
    for graph in graphs:
        check_graph(folder, spec, data["files"], graph)
    write_manifest(folder, spec, config, graphs)
    return len(graphs)
