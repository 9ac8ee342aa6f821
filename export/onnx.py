"""PyTorch modules → ONNX graphs whose weights lie in the one safetensors file that PyTorch reads too.

Every role of the step contract becomes a graph with a free batch axis. Its parameters are stored as fp16 in
`model.safetensors`; the graph points at them by offset and casts them to fp32, which ONNX Runtime does once,
when it makes a session. It knows nothing of training.

Exporter: torch.export (dynamo), opset 23: Attention, RMSNormalization and LayerNormalization are single
nodes.
"""

from __future__ import annotations

import inspect
import json
import logging
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from engine.model.signature import Role, Tensor

OPSET = 23
SMALL = 64  # elements; smaller constants stay in the graph
TORCH_TYPES = {"float32": torch.float32, "int64": torch.int64, "uint8": torch.uint8}


@dataclass(frozen=True)
class Stored:
    """Where a tensor's bytes lie in a safetensors file."""

    file: str
    offset: int
    length: int
    dtype: str
    shape: tuple[int, ...]


def stored_tensors(path: Path) -> dict[str, Stored]:
    """Name → place in the file, read from the safetensors header."""
    with path.open("rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(size))
    start = 8 + size
    return {
        name: Stored(
            path.name,
            start + t["data_offsets"][0],
            t["data_offsets"][1] - t["data_offsets"][0],
            t["dtype"],
            tuple(t["shape"]),
        )
        for name, t in header.items()
        if name != "__metadata__"
    }


def example(tensor: Tensor, batch: int = 2) -> torch.Tensor:
    shape = (batch, *tensor.shape)
    if tensor.dtype == "float32":
        return torch.rand(shape)
    return torch.zeros(shape, dtype=TORCH_TYPES[tensor.dtype])


def export_role(module: nn.Module, role: Role) -> onnx.ModelProto:
    """One graph, weights inside, inputs and outputs named as in the contract, batch free."""
    batch = torch.export.Dim("batch", min=1, max=64)
    shapes: tuple[Any, ...] = tuple({0: batch} for _ in role.inputs)
    if any(p.kind is p.VAR_POSITIONAL for p in inspect.signature(module.forward).parameters.values()):
        shapes = (shapes,)  # `*inputs` counts as one argument
    with quiet():
        program = torch.onnx.export(
            module.eval(),
            tuple(example(t) for t in role.inputs),
            dynamo=True,
            opset_version=OPSET,
            input_names=[t.name for t in role.inputs],
            output_names=[t.name for t in role.outputs],
            dynamic_shapes=shapes,
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    strip(model)
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporter says each time: three notes that no user can act on."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)  # torchvision is not installed
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*LeafSpec", FutureWarning)
            warnings.filterwarnings("ignore", r"# The axis name: batch", UserWarning)
            yield
    finally:
        registration.setLevel(level)


def strip(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes on every node: stack traces with local paths, most of the file."""
    graph, inside = model.graph, [node for function in model.functions for node in function.node]
    tensors = (*graph.initializer, *graph.input, *graph.output)
    for part in (model, graph, *graph.node, *tensors, *model.functions, *inside):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def share_weights(model: onnx.ModelProto, places: Mapping[bytes, Stored]) -> int:
    """Let initialisers point into the weights file; Cast and Transpose behind them restore what the graph had
    (the exporter folds a Linear's transpose into its weight). Returns how many are shared.

    `places` maps the content of a tensor, in the graph's dtype, to where it is stored."""
    graph, restore, shared = model.graph, [], 0
    for initializer in graph.initializer:
        array = numpy_helper.to_array(initializer)
        if array.size <= SMALL:
            continue
        place, turned = places.get(content(array)), False
        if place is None and array.ndim == 2:
            place, turned = places.get(content(array.T)), True
        if place is None:
            continue
        name = initializer.name
        chain: list[tuple[str, dict[str, Any]]] = []
        if place.dtype == "F16" and array.dtype == np.float32:
            chain.append(("Cast", {"to": int(TensorProto.FLOAT)}))
            initializer.data_type = TensorProto.FLOAT16
        if turned:
            chain.append(("Transpose", {"perm": [1, 0]}))
            initializer.dims[:] = reversed(initializer.dims)
        if chain:
            names = [f"{name}.stored", *(f"{name}.{op.lower()}" for op, _ in chain[:-1]), name]
            initializer.name = names[0]
            restore += [
                helper.make_node(op, [source], [target], **options)
                for (op, options), source, target in zip(chain, names, names[1:], strict=False)
            ]
        initializer.ClearField("raw_data")
        initializer.ClearField("float_data")
        initializer.data_location = TensorProto.EXTERNAL
        del initializer.external_data[:]
        for key, value in (("location", place.file), ("offset", place.offset), ("length", place.length)):
            initializer.external_data.add(key=key, value=str(value))
        shared += 1
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend(restore + nodes)
    del graph.value_info[:]  # shapes of stored tensors changed; loading infers them again
    return shared


def content(array: npt.NDArray[Any]) -> bytes:
    """A key for equal tensors: dtype, shape and bytes."""
    return f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes()
