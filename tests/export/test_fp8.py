"""fp8 graphs: which layers are quantised, calibrated scales, and a graph that computes about the same. Builds
an engine if TensorRT-RTX is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file

from engine.backends.artifact import WEIGHTS, Artifact, open_artifact, write_manifest
from engine.backends.gpu.tensorrt_api import load_api
from engine.backends.pytorch import TorchBackend
from engine.errors import ModelFilesError
from engine.model.signature import signature
from engine.types import FloatArray, IntArray
from export.cli import main
from export.fp8 import LARGEST, calibrate, is_quantised, quantise
from export.gates import distance
from export.tensorrt.process import worker
from export.tensorrt.worker import Request
from export.weights import stored_tensors
from tests.rigs.engine import tiny

NAME = "dit.transformer_blocks.0.attn.to_q.weight"
OTHER = "dit.proj_out.weight"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (NAME, True),
        ("transformer_blocks.19.attn.to_add_out.weight", True),
        ("transformer_blocks.0.ff_context.net.2.weight", True),
        ("dit.single_transformer_blocks.3.proj_mlp.weight", True),
        ("single_transformer_blocks.39.proj_out.weight", True),
        (OTHER, False),
        ("dit.x_embedder.proj.weight", False),
        ("dit.transformer_blocks.0.norm1.linear.weight", False),
        ("dit.transformer_blocks.0.attn.norm_q.weight", False),
        ("dit.transformer_blocks.0.attn.to_q.bias", False),
        ("dit.single_transformer_blocks.0.norm.linear.weight", False),
        ("dit.time_text_embed.text_embedder.linear_1.weight", False),
        ("memorize.layers.0.attn.to_q.weight", False),
        ("squeeze.cross.attn.to_q.weight", False),
        ("context_embedder.token_refiner.refiner_blocks.0.attn.to_q.weight", False),
    ],
)
def test_only_attention_and_feed_forward_layers_are_quantised(name: str, expected: bool) -> None:
    """Never the memory path, whose errors would accumulate in ψ."""
    assert is_quantised(name) == expected


def no_tokens(text: str) -> tuple[IntArray, FloatArray]:
    return np.arange(6, dtype=np.int64), np.ones(6, np.float32)


def test_every_quantised_layer_is_calibrated_on_its_own_inputs() -> None:
    spec = tiny.world_model().spec(name="tiny", fps=16, steps=2, first_steps=3)
    model = tiny.world_model()
    reference = TorchBackend("reference", spec, model.roles(spec), no_tokens, torch.device("cpu"))
    given = {n: x.numpy() for n, x in tiny.role_inputs().items()}
    seen = {"denoise": {t.name: given[t.name] for t in signature(spec)["denoise"].inputs}}
    found = calibrate(reference, seen)
    double, single = tiny.DIT.double_blocks, tiny.DIT.single_blocks
    assert len(found) == 12 * double + 5 * single
    weights = dict(model.dit.named_parameters())
    for name, (given_most, own) in found.items():
        assert given_most > 0
        assert own == pytest.approx(float(weights[name].abs().max()))
    assert not any(m._forward_pre_hooks for m in model.modules())


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Two products of one input: one with a quantised weight, one without."""
    torch.manual_seed(0)
    weights = {NAME: torch.randn(16, 16).half(), OTHER: torch.randn(16, 16).half()}
    save_file(weights, tmp_path / "w.safetensors")
    stored = stored_tensors(tmp_path / "w.safetensors")
    nodes, initializers = [], []
    for n, name in enumerate((NAME, OTHER)):
        place = stored[name]
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT16, dims=[16, 16])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", place.file), ("offset", place.offset), ("length", place.length)):
            tensor.external_data.add(key=key, value=str(value))
        initializers.append(tensor)
        nodes += [
            helper.make_node("Cast", [name], [f"c{n}"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", [f"c{n}"], [f"t{n}"], perm=[1, 0]),
            helper.make_node("MatMul", ["x", f"t{n}"], [f"y{n}"]),
        ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])
    ys = [helper.make_tensor_value_info(f"y{n}", TensorProto.FLOAT, ["batch", 16]) for n in range(2)]
    made = helper.make_graph(nodes, "two", [x], ys, initializers)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    onnx.save(model, tmp_path / "denoise.onnx")
    return tmp_path / "denoise.onnx"


def in_fp8(graph: Path, largest: dict[str, tuple[float, float]]) -> onnx.ModelProto:
    model = onnx.load(graph, load_external_data=False)
    assert quantise(model, largest) == 1
    onnx.save(model, graph.with_name("denoise.fp8.onnx"))
    return model


def test_only_the_quantised_product_loses_precision(graph: Path) -> None:
    x = np.random.default_rng(0).standard_normal((3, 16), np.float32)
    model = in_fp8(graph, {NAME.removeprefix("dit."): (float(np.abs(x).max()), 4.0)})
    assert [n.op_type for n in model.graph.node].count("QuantizeLinear") == 2
    a, b = ort_run(graph, x), ort_run(graph.with_name("denoise.fp8.onnx"), x)
    assert 1e-3 < distance(b[0], a[0]).rel_l2 < 0.08
    np.testing.assert_array_equal(b[1], a[1])


def ort_run(path: Path, x: FloatArray) -> list[FloatArray]:
    options = ort.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # it takes fp8 for int8
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found: list[FloatArray] = session.run(None, {"x": x})
    return found


def test_the_largest_value_seen_becomes_the_largest_of_fp8(graph: Path) -> None:
    model = in_fp8(graph, {NAME.removeprefix("dit."): (LARGEST, 2 * LARGEST)})
    scales = {t.name: t.float_data[0] for t in model.graph.initializer if ".scale." in t.name}
    assert sorted(scales.values()) == [1.0, 2.0]
    weights = [t for t in model.graph.initializer if t.external_data]
    assert {t.name for t in weights} == {NAME, OTHER}  # where they were, as they were


def test_a_weight_that_was_not_calibrated_is_named(graph: Path) -> None:
    with pytest.raises(ModelFilesError, match=rf"{NAME} was not calibrated"):
        in_fp8(graph, {})


def test_tensorrt_takes_it(graph: Path, tmp_path: Path) -> None:
    """It is parsed and built for an architecture with fp8. Checking its results needs a GPU."""
    pytest.importorskip("tensorrt_rtx", reason="pip install 'psistream[rtx]'")
    in_fp8(graph, {NAME.removeprefix("dit."): (3.0, 4.0)})
    request = Request(
        backend=load_api("tensorrt_rtx").name,
        graph=str(graph.with_name("denoise.fp8.onnx")),
        plan=str(tmp_path / "plan"),
        result=str(tmp_path / "result"),
        batch=(1, 2, 4),
        target="sm89",
    )
    result = worker(request, tmp_path / "log", lambda line: None, 120.0)
    assert result.ok, result.errors
    assert (result.layers or {})["QUANTIZE"] == (result.layers or {})["DEQUANTIZE"] == 2


def test_export_says_where_fp8_comes_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["onnx", "--precision", "fp32,fp8", "--out", str(tmp_path / "x")]) == 2
    assert "`psistream export fp8 DIR`" in capsys.readouterr().err


def test_without_a_bf16_graph_the_error_names_the_command_that_makes_one(
    capsys: pytest.CaptureFixture[str], tiny_folder: Artifact
) -> None:
    assert main(["fp8", str(tiny_folder.path)]) == 2
    assert (
        "no bf16 graph for role 'denoise'; `psistream export onnx --precision bf16`"
        in capsys.readouterr().err
    )


@pytest.fixture
def tiny_folder(tmp_path: Path) -> Artifact:
    """A folder without any graphs."""
    folder = tmp_path / "model"
    tiny.write_text_files(folder)
    (folder / WEIGHTS).write_bytes(bytes(8))
    write_manifest(folder, tiny.world_model().spec(name="tiny", fps=16, steps=2, first_steps=3), {}, [])
    return open_artifact(folder)
