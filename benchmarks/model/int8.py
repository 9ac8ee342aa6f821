"""The denoiser with 8-bit linears for CPUs: weights per channel, activations quantised dynamically. Only the
denoiser, since errors of the memory path would recur through ψ.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxscript import optimizer

LIMIT = 2**31  # elements: fold all constants


def self_contained(graph: Path) -> onnx.ModelProto:
    """The graph with its weights embedded, cast and transposed in advance, as the quantiser needs them."""
    model = ir.load(graph)
    ir.external_data.load_to_model(model)
    optimizer.fold_constants(model, input_size_limit=LIMIT, output_size_limit=LIMIT)
    passes.RemoveUnusedNodesPass()(model)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    proto: onnx.ModelProto = ir.serde.serialize_model(model)
    del proto.graph.value_info[:]  # otherwise the quantiser fails on shapes that it inferred wrongly
    return proto


def quantize(graph: Path, out: Path) -> None:
    """Write `graph` with 8-bit matrix products."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root = logging.getLogger()
    level = root.level
    with tempfile.TemporaryDirectory() as made:
        whole = Path(made) / "whole.onnx"
        onnx.save(self_contained(graph), whole)
        root.setLevel(logging.ERROR)  # it recommends a preparation step that fails on these graphs
        try:
            quantize_dynamic(
                whole,
                out,
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=True,
                weight_type=QuantType.QInt8,
                extra_options={"MatMulConstBOnly": True},
            )
        finally:
            root.setLevel(level)
