"""One role of the step contract: a PyTorch module → an ONNX graph with the contract's names and shapes.

Exported with torch.export (dynamo) at opset 23, so Attention, RMSNormalization and RotaryEmbedding are single
nodes. The batch axis is dynamic, every other shape is fixed. Constants are folded, but never weights: their
names and bytes stay as stored (export.weights).
"""

from __future__ import annotations

import inspect
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
import torch
from onnxscript import optimizer, rewriter
from torch import nn

from engine.model.graphs import GraphContract
from engine.model.signature import Tensor
from export.weights import Stored, attach

OPSET = 23
MAX_BATCH = 64
ROUNDS = 4  # rounds of folding and rewriting; both stop once nothing changes
TORCH_TYPES = {"float32": torch.float32, "int64": torch.int64, "uint8": torch.uint8}


def example(tensor: Tensor, batch: int = 2) -> torch.Tensor:
    """An input of the contract's shape and type."""
    shape = (batch, *tensor.shape)
    if tensor.dtype == "float32":
        return torch.rand(shape)
    return torch.zeros(shape, dtype=TORCH_TYPES[tensor.dtype])


def export_role(
    module: nn.Module, contract: GraphContract, weights: Mapping[str, Stored], folder: Path
) -> onnx.ModelProto:
    """The graph of `module`. `weights` says where each parameter is stored in the files of `folder`.

    Their values are not read, so they need not be loaded."""
    role = contract.contracts[len(contract.contracts) // 2]  # not the largest: a table's end is no size of x
    shapes: tuple[Any, ...] = dynamic(contract)
    if any(p.kind is p.VAR_POSITIONAL for p in inspect.signature(module.forward).parameters.values()):
        shapes = (shapes,)  # `*inputs` counts as one argument
    with quiet():
        program = torch.onnx.export(
            module.eval(),
            tuple(example(t) for t in role.inputs),
            dynamo=True,
            opset_version=OPSET,
            input_names=role.input_names,
            output_names=role.output_names,
            dynamic_shapes=shapes,
            verbose=False,
            optimize=False,  # otherwise it folds weights and loses their names
        )
    assert program is not None
    model = program.model
    attach(model, weights, folder)
    names = {p.name for place in weights.values() for p in (place, place.scale) if p is not None}
    with hidden_values(model, names):
        simplify(model, names)
    proto: onnx.ModelProto = ir.serde.serialize_model(model)
    share_constants(proto)
    strip(proto)
    return proto


def dynamic(contract: GraphContract) -> tuple[dict[int, Any], ...]:
    """The free axes of every input. Sides of pictures are even in every stage, since a patch is 2 x 2."""
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    found = []
    for tensor in contract.largest.inputs:
        axes: dict[int, Any] = {0: batch}
        for axis, free in enumerate(contract.free(tensor, "inputs")):
            if free:
                name = {1: "columns", 2: "rows"}[len(tensor.shape) - axis]
                axes[1 + axis] = 2 * torch.export.Dim(name, min=2, max=tensor.shape[axis] // 2)
        found.append(axes)
    return tuple(found)


def simplify(model: ir.Model, weights: set[str]) -> None:
    """Fold constants except weights, apply onnxscript's rewrites, remove unused nodes."""

    def should_fold(node: ir.Node) -> bool | None:
        return False if any(v is not None and v.name in weights for v in node.inputs) else None

    passes.InlinePass()(model)
    for _ in range(ROUNDS):
        folded = optimizer.fold_constants(model, onnx_shape_inference=True, should_fold=should_fold)
        before = len(model.graph)
        rewriter.rewrite(model)
        passes.RemoveUnusedNodesPass()(model)
        if not folded.modified and len(model.graph) == before:
            break
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.CommonSubexpressionEliminationPass()(model)
    for tidy in (
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedOpsetsPass(),
        passes.OutputFixPass(),
        passes.NameFixPass(),
    ):
        tidy(model)


@contextmanager
def hidden_values(model: ir.Model, weights: set[str]) -> Iterator[None]:
    """Hide the values of weights. onnxscript would drop a bias that is zero, and a fine-tuned model would
    then lose its own."""
    found = {n: v for n, v in model.graph.initializers.items() if n in weights}
    values = {n: v.const_value for n, v in found.items()}
    for v in found.values():
        v.const_value = None
    try:
        yield
    finally:
        for n, v in found.items():
            v.const_value = values[n]


@contextmanager
def quiet() -> Iterator[None]:
    """Silence three warnings of the exporter that users cannot act on."""
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


def share_constants(model: onnx.ModelProto) -> None:
    """Equal constants become one: UMT5 has the same table of distances in each of its layers."""
    graph, first, instead = model.graph, dict[tuple[int, tuple[int, ...], bytes], str](), dict[str, str]()
    outputs = {value.name for value in graph.output}
    for tensor in graph.initializer:
        if tensor.raw_data and tensor.name not in outputs:
            key = (tensor.data_type, tuple(tensor.dims), tensor.raw_data)
            instead[tensor.name] = first.setdefault(key, tensor.name)
    for node in graph.node:
        node.input[:] = [instead.get(name, name) for name in node.input]
    kept = [t for t in graph.initializer if instead.get(t.name, t.name) == t.name]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def strip(model: onnx.ModelProto) -> None:
    """Remove the exporter's metadata from every node. Stack traces with local paths make up most of the
    file."""
    graph, inside = model.graph, [node for function in model.functions for node in function.node]
    tensors = (*graph.initializer, *graph.input, *graph.output, *graph.value_info)
    for part in (model, graph, *graph.node, *tensors, *model.functions, *inside):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    del graph.value_info[:]  # inferred again when the graph is loaded


def census(model: onnx.ModelProto) -> dict[str, int]:
    """Number of nodes per operator."""
    return dict(sorted(Counter(node.op_type for node in model.graph.node).items()))
