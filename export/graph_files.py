"""Graphs of a full-size model, written beside the shards of its weights."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import onnx
from torch import nn

from engine.backends.artifact import Graph
from engine.errors import InvalidInput
from engine.model.graphs import graphs_of
from engine.model.signature import ModelSpec
from export.graph import export_role
from export.manifest import describe
from export.weights import Stored, places


def shards(source: Path, out: Path) -> list[Path]:
    """The shards of a converted checkpoint, copied if `out` is another folder. Hard links would save space,
    but readers of external data refuse them."""
    found = sorted(source.glob("model*.safetensors"))
    if not found:
        raise InvalidInput(f"--weights: {source} holds no model*.safetensors", field="weights")
    if source.resolve() != out.resolve():
        for shard in found:
            shutil.copyfile(shard, out / shard.name)
    return [out / shard.name for shard in found]


def write_graph(
    role: str,
    module: nn.Module,
    model: nn.Module,
    spec: ModelSpec,
    stored: dict[str, Stored],
    out: Path,
    precision: str,
) -> Graph:
    began = time.monotonic()
    proto = export_role(module, graphs_of(spec)[role], places(module, model, stored), out)
    file = f"{role}.onnx" if precision == "fp32" else f"{role}.{precision}.onnx"
    onnx.save(proto, out / file)
    size, took_s = (out / file).stat().st_size / 1024, time.monotonic() - began
    print(f"{file}: {len(proto.graph.node)} nodes, {size:.0f} KiB, {took_s:.0f} s", flush=True)
    return describe(role, precision, file, proto)
