"""Helios as graphs: one denoiser for all stages, equal to PyTorch, one engine with a profile per stage."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from engine.backends.artifact import Artifact, open_artifact, write_manifest
from engine.errors import InvalidInput, ModelFilesError
from engine.model.converted import CONFIG
from engine.model.graphs import STAGE, graphs_of
from engine.model.helios.config import HeliosConfig
from engine.model.helios.quantisation import chosen
from engine.model.helios.serve import Conversion
from engine.model.helios.transformer import HeliosTransformer
from engine.runtime.segment.generator import Generator, Job
from engine.runtime.state.state import SessionState
from engine.types import FloatArray
from export.cli import main
from export.helios.export import export_helios, shapes, shrunk
from export.tensorrt.build import EnginePlan, build, parsed
from export.verify.candidates import candidate, pytorch
from tests.rigs.models.helios import SMALL
from tests.rigs.models.helios_companions import write_companions

C = replace(SMALL, layers=1)  # exporting takes long
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # the export takes twenty seconds


def converted(folder: Path, c: HeliosConfig) -> Path:
    """What `psistream convert` writes, without a checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    state = HeliosTransformer(c).state_dict()
    save_file(
        {n: torch.randn_like(t) / max(1, t.shape[-1]) ** 0.5 for n, t in state.items()},
        folder / "model.safetensors",
    )
    (folder / CONFIG).write_text(json.dumps(Conversion(c).to_json()))
    return folder


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = converted(tmp_path_factory.mktemp("helios"), C)
    export_helios(folder, weights=folder, precisions=["fp32"])
    return open_artifact(folder, needs=())


def segments(backend: Any, count: int) -> FloatArray:
    """Latents of two sessions in one batch, with a change of prompt before the last segment."""
    generator = Generator(backend)
    states = [SessionState.zeros(backend.spec) for _ in range(2)]
    for seed, state in enumerate(states):
        generator.conditioner.start_scene(state, "a red fox", seed=seed, scene=0)
    made = []
    for n in range(count):
        if n == count - 1:
            generator.conditioner.recondition(states[0], "night")
        jobs = [Job(state, 0) for state in states]
        made.append(generator.denoise(jobs))
        generator.finish(jobs, made[-1])
    return np.concatenate(made, 1)


def test_three_segments_on_onnx_runtime_are_pytorchs(artifact: Artifact) -> None:
    backend = candidate("onnxruntime", artifact)
    assert sorted(backend.sessions) == ["denoise", "project_text"]  # type: ignore[attr-defined]
    made, wanted = segments(backend, 3), segments(pytorch(artifact, "fp32"), 3)
    assert wanted.std() > 0.5
    assert np.abs(made - wanted).max() <= 1e-4


def test_one_graph_serves_three_stages(artifact: Artifact) -> None:
    assert [artifact.graph(f"denoise_{k}") for k in range(3)] == 3 * [artifact.graph("denoise")]
    graph = artifact.graph("denoise")
    assert graph.inputs[0]["shape"] == ["batch", C.segment, C.channels, STAGE, STAGE]
    assert graph.outputs[0]["shape"] == graph.inputs[0]["shape"]
    assert graphs_of(artifact.spec)["denoise"].sizes == tuple(
        {"x": (C.segment, C.channels, *C.stage_size(k))} for k in range(3)
    )


def test_its_operators_are_counted(artifact: Artifact) -> None:
    operators = artifact.graph("denoise").operators
    assert operators["Attention"] == 2 * C.layers
    assert operators["RotaryEmbedding"] == 2 * C.layers
    assert operators["RMSNormalization"] == 4 * C.layers
    assert operators["LayerNormalization"] == 3 * C.layers + 1
    assert not {"Loop", "If", "Scan", "GatherND", "ScatterND"} & set(operators)


def test_the_folder_is_verified_and_every_control_is_noticed(
    artifact: Artifact, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(artifact.path), "--segments", "2", "--batch", "2", "--record"]) == 0
    out = capsys.readouterr().out
    assert all(f"denoise_{k} " in out for k in range(3))
    assert "MISSED" not in out
    (found,) = open_artifact(artifact.path, needs=()).evidence
    assert (found["level"], found["backend"]) == ("parity", "onnxruntime")


def test_a_manifest_that_fixes_a_stage_is_refused(artifact: Artifact, tmp_path: Path) -> None:
    graph = artifact.graph("denoise")
    fixed = [{**t, "shape": [n if n != STAGE else 4 for n in t["shape"]]} for t in graph.inputs]
    for file in artifact.path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    write_manifest(tmp_path, artifact.spec, artifact.config, [replace(graph, inputs=fixed)])
    with pytest.raises(ModelFilesError, match=r"denoise: input .*should be .*stage"):
        open_artifact(tmp_path, needs=())


def test_the_whole_networks_shapes_are_the_contracts() -> None:
    """On the meta device, with ψ; no weights."""
    with torch.inference_mode():
        parameters, found = shapes(batch=2)
    assert parameters / 1e9 == pytest.approx(14.99, abs=0.01)
    assert found["project_text"] == [("projected", (2, 512, 5120))]
    assert [found[f"denoise_{k}"][0][1][-2:] for k in range(3)] == [(12, 20), (24, 40), (48, 80)]
    assert found["squeeze"] == [("psi_next", (2, 572, 5120))]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("blocks.3.attn1.to_q.weight", True),
        ("model.blocks.36.ffn.net.0.proj.weight", True),
        ("blocks.10.attn2.to_out.0.weight", True),
        ("blocks.2.attn1.to_q.weight", False),
        ("blocks.37.ffn.net.2.weight", False),
        ("blocks.10.attn1.norm_q.weight", False),
        ("blocks.10.attn1.to_q.bias", False),
        ("patch_short.weight", False),
        ("condition_embedder.time_proj.weight", False),
        ("proj_out.weight", False),
        ("semantic_pack.squeeze.cross.attn.to_q.weight", False),
    ],
)
def test_linears_inside_are_quantised_and_the_ends_and_the_memory_are_not(name: str, expected: bool) -> None:
    assert chosen(name, layers=40) == expected


def test_bad_wishes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidInput, match="--layers: 0 must lie between 1 and 40"):
        shrunk(0)
    words = ["onnx", "--model", "helios", "--out", str(tmp_path / "x")]
    for more, said in (
        ([], "give either --weights or --layers"),
        (["--layers", "1,1"], "must be a number of blocks"),
        (["--layers", "1", "--precision", "fp4"], "unknown precision 'fp4'"),
    ):
        assert main([*words, *more]) == 2
        assert said in capsys.readouterr().err


def test_the_engine_has_a_profile_for_each_stage(artifact: Artifact, tmp_path: Path) -> None:
    """TensorRT-RTX, ahead of time, on the CPU. One engine, so one copy of the weights."""
    pytest.importorskip("tensorrt_rtx", reason="pip install 'psistream[rtx]'")
    result = parsed(artifact, "denoise", "fp32", "tensorrt_rtx")
    assert result.inputs is not None
    assert result.inputs["x"][1] == [-1, C.segment, C.channels, -1, -1]
    plan = EnginePlan("denoise", "fp32", "sm89", (1, 2, 2))
    engine, _ = build(artifact, plan, cache=tmp_path / "engines", backend="tensorrt_rtx")
    assert engine.inputs.sizes == tuple({"x": [C.segment, C.channels, *C.stage_size(k)]} for k in range(3))
    again, there = build(artifact, plan, cache=tmp_path / "engines", backend="tensorrt_rtx")
    assert there
    assert again == engine


@pytest.mark.slow
def test_companions_are_graphs_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """UMT5, both ways through the autoencoder; all of it compared role by role and over two segments."""
    folder = converted(write_companions(tmp_path / "all", text_width=C.text_dim), replace(C, text_tokens=512))
    export_helios(folder, weights=folder, precisions=["fp32"])
    artifact = open_artifact(folder, needs=())
    assert {g.role for g in artifact.graphs} == set(graphs_of(artifact.spec))
    assert main(["verify", str(folder), "--segments", "2", "--batch", "2"]) == 0
    for graph in artifact.graphs:
        assert not {"Loop", "If", "Scan"} & set(graph.operators), graph.role
        assert artifact.file(graph.file).stat().st_size < 2**23


@pytest.mark.slow
def test_a_bf16_graph_keeps_what_must_be_exact(tmp_path: Path) -> None:
    folder = converted(tmp_path / "bf16", replace(C, layers=7))
    export_helios(folder, weights=folder, precisions=["bf16"])
    model = onnx.load(folder / "denoise.bf16.onnx", load_external_data=False)
    assert {i.type.tensor_type.elem_type for i in model.graph.output} == {onnx.TensorProto.FLOAT}
    assert main(["fp8", str(folder)]) == 0
    quantised = open_artifact(folder, needs=()).graph("denoise", "fp8").operators["QuantizeLinear"]
    assert (
        quantised == 2 * 10 - 2 - 1
    )  # of the middle block: ten weights; q, k, v share an input, k, v the text
