"""`psistream export fp8`: the denoiser's bf16 graph with linear layers in fp8, for engines.

The recipe is NVIDIA ModelOpt's default for fp8: E4M3, one scale per tensor that maps the largest calibrated
value to the largest fp8 value, and only the linear layers of attention and feed-forward. Embeddings,
modulations and the last layer are not quantised, nor is the memory path, whose errors would accumulate in ψ.
The graph uses QuantizeLinear and DequantizeLinear, so it needs no ModelOpt, and ONNX Runtime can measure the
loss on a CPU.

The weights' files do not change; weights are quantised when an engine is built.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from engine.backends.artifact import Artifact, Graph, write_manifest
from engine.backends.pytorch import TorchBackend
from engine.errors import ModelFilesError
from engine.model.graphs import SHARED
from engine.model.helios.quantisation import chosen as chosen_of_helios
from engine.model.helios.serve import read_about
from export.helios.reference import is_helios
from export.manifest import describe
from export.verify.candidates import pytorch
from export.verify.parity import RoleInputs, cases
from export.verify.verify import RECORDED_SEGMENTS, record_inputs

LARGEST = 448.0  # value of E4M3
LINEAR = re.compile(
    r"(?:^|\.)(?:single_)?transformer_blocks\.\d+\.(?:attn|ff|ff_context|proj_mlp|proj_out)\."
)
PASS_THROUGH = ("Cast", "Transpose", "Identity")  # allowed between a weight and the product that uses it
BATCH = 2  # sessions to calibrate with, at each noise level


Choice = Callable[[str], bool]


def is_quantised(name: str) -> bool:
    """Whether this is the weight of an attention or feed-forward linear layer of FramePack's blocks."""
    return name.endswith(".weight") and ".norm" not in name and LINEAR.search(name) is not None


def choice_of(artifact: Artifact) -> Choice:
    """Which weights to quantise. Helios keeps its first and last blocks, as in the public recipe."""
    if not is_helios(artifact):
        return is_quantised
    layers = read_about(artifact.config, str(artifact.path)).config.layers
    return partial(chosen_of_helios, layers=layers)


def calibrate(
    reference: TorchBackend, seen: Mapping[str, RoleInputs], choice: Choice = is_quantised
) -> dict[str, tuple[float, float]]:
    """Weight of a chosen linear → the largest value of its input, and the largest value of the weight."""
    found: dict[str, tuple[float, float]] = {}
    denoising = reference.spec.denoise_roles
    module = reference.modules[denoising[-1]]  # stages share their weights

    def watch(name: str, linear: nn.Linear) -> Any:
        def record(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            given, own = float(inputs[0].abs().max()), float(linear.weight.abs().max())
            found[name] = (max(given, found.get(name, (0.0, 0.0))[0]), own)

        return linear.register_forward_pre_hook(record)

    hooks = [
        watch(stored_name(f"{name}.weight"), m)
        for name, m in module.named_modules()
        if isinstance(m, nn.Linear) and choice(f"{name}.weight")
    ]
    for role, given in cases({role: seen[role] for role in denoising}, BATCH):
        reference.run(role, given)
    for hook in hooks:
        hook.remove()
    return found


def stored_name(name: str) -> str:
    """The name as in the weights' files, whatever module holds the transformer."""
    return name.removeprefix("dit.").removeprefix("model.")


def quantise(
    model: onnx.ModelProto, largest: Mapping[str, tuple[float, float]], choice: Choice = is_quantised
) -> int:
    """Quantise the products of the chosen weights to fp8, in place; returns their number.

    Raises ModelFilesError for a weight that was not calibrated."""
    graph = model.graph
    makers = {o: node for node in graph.node for o in node.output}
    stored = {t.name: t.data_type for t in graph.initializer if t.external_data}
    nodes: list[onnx.NodeProto] = []
    there: dict[tuple[str, float], str] = {}  # already in fp8: three linears share one input
    count = 0

    def through(value: str, most: float, kind: int) -> str:
        """Convert `value` to fp8 and back."""
        key = (value, most)
        if key not in there:
            scale, zero, small, back = (
                f"{value}.fp8.{part}.{count}" for part in ("scale", "zero", "q", "dq")
            )
            graph.initializer.append(helper.make_tensor(scale, kind, [], [most / LARGEST or 1.0]))
            graph.initializer.append(helper.make_tensor(zero, TensorProto.FLOAT8E4M3FN, [], [0.0]))
            nodes.append(helper.make_node("QuantizeLinear", [value, scale, zero], [small], name=small))
            nodes.append(helper.make_node("DequantizeLinear", [small, scale, zero], [back], name=back))
            there[key] = back
        return there[key]

    for node in graph.node:
        name = weight_of(node, makers, stored)
        if name is not None and choice(name):
            if stored_name(name) not in largest:
                raise ModelFilesError(
                    f"{name} was not calibrated; does the graph belong to this model?", field=name
                )
            given, own = largest[stored_name(name)]
            kind = type_of(node.input[1], makers, stored)
            node.input[0], node.input[1] = (
                through(node.input[0], given, kind),
                through(node.input[1], own, kind),
            )
            count += 1
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return count


def weight_of(
    node: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto], stored: Mapping[str, int]
) -> str | None:
    """The stored weight behind a product's second input, which may be cast and transposed."""
    if node.op_type not in ("MatMul", "Gemm"):
        return None
    value = node.input[1]
    while value in makers and makers[value].op_type in PASS_THROUGH:
        value = makers[value].input[0]
    return value if value in stored else None


def type_of(value: str, makers: Mapping[str, onnx.NodeProto], stored: Mapping[str, int]) -> int:
    """The type of a value after its casts, as ONNX numbers types."""
    while value in makers:
        if makers[value].op_type == "Cast":
            return int(next(a.i for a in makers[value].attribute if a.name == "to"))
        value = makers[value].input[0]
    return stored[value]


@torch.inference_mode()
def add(artifact: Artifact) -> Graph:
    """Write the fp8 graph beside the bf16 graph. Raises ModelFilesError if there is no bf16 graph."""
    base, choice = artifact.graph(SHARED, "bf16"), choice_of(artifact)
    reference = pytorch(artifact, "fp32")
    model = onnx.load(artifact.file(base.file), load_external_data=False)
    count = quantise(model, calibrate(reference, record_inputs(reference), choice), choice)
    about = f"fp8 E4M3, one scale per tensor, {count} linears, largest values of {RECORDED_SEGMENTS} segments"
    model.metadata_props.add(key="quantisation", value=about)
    file = f"{SHARED}.fp8.onnx"
    onnx.save(model, artifact.file(file))
    graph = describe(SHARED, "fp8", file, model)
    others = [g for g in artifact.graphs if (g.role, g.precision) != (SHARED, "fp8")]
    write_manifest(
        artifact.path, artifact.spec, artifact.config, [*others, graph], artifact.tools, artifact.evidence
    )
    return graph
