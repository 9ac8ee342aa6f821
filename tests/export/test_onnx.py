"""An exported artifact: small graphs that share one weight file, without traces of the machine."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.backends.artifact import EMBEDDINGS, WEIGHTS, described, open_artifact
from engine.errors import ModelFilesError
from engine.model.graphs import GraphContract, graphs_of
from engine.model.signature import Role, Tensor, signature
from export.cli import main
from export.graph import export_role
from export.weights import Stored, all_stored, places, stored_tensors
from tests.rigs.engine import tiny
from tests.rigs.paths import ROOT


def graphs(folder: Path) -> dict[str, onnx.ModelProto]:
    return {f.stem: onnx.load(f, load_external_data=False) for f in sorted(folder.glob("*.onnx"))}


def test_an_artifact_has_a_graph_per_role_and_opens(tiny_artifact: Path) -> None:
    artifact = open_artifact(tiny_artifact)
    assert [g.role for g in artifact.graphs] == list(signature(artifact.spec))
    assert artifact.spec.name == "tiny"
    assert (artifact.spec.steps, artifact.spec.first_steps) == (2, 3)
    files = {f.name for f in tiny_artifact.iterdir()}
    assert set(artifact.files) == files - {"manifest.json"}


def test_graphs_are_small_and_share_the_one_file_of_weights(tiny_artifact: Path) -> None:
    """Each parameter's bytes are only in model.safetensors, where PyTorch reads them too."""
    shared: set[tuple[str, int]] = set()
    for name, graph in graphs(tiny_artifact).items():
        size = (tiny_artifact / f"{name}.onnx").stat().st_size
        inside = sum(t.ByteSize() for t in graph.graph.initializer if not t.external_data)
        assert size < 100 * 1024, name
        assert inside < 60 * 1024, name
        for tensor in graph.graph.initializer:
            places = {e.key: e.value for e in tensor.external_data}
            if places:
                shared.add((places["location"], int(places["offset"])))
    stored = stored_tensors(tiny_artifact / WEIGHTS)
    assert {file for file, _ in shared} == {WEIGHTS, "embeddings.safetensors"}
    elements = {s.offset: int(np.prod(s.shape)) for s in stored.values()}
    pointed = sum(elements.get(offset, 0) for file, offset in shared if file == WEIGHTS)
    assert pointed > 0.9 * sum(elements.values())


def test_weights_are_stored_in_fp16(tiny_artifact: Path) -> None:
    state = load_file(tiny_artifact / WEIGHTS)
    assert {str(v.dtype) for v in state.values()} == {"torch.float16"}
    assert set(state) == set(tiny.world_model().trained())


def test_graphs_contain_nothing_about_the_machine(tiny_artifact: Path) -> None:
    """The exporter attaches a stack trace to every node."""
    here = str(ROOT).encode()
    for file in tiny_artifact.glob("*.onnx"):
        data = file.read_bytes()
        assert here not in data, file.name
        assert b".py" not in data, file.name


def test_graphs_have_the_contracts_names_and_a_free_batch(tiny_artifact: Path) -> None:
    roles = signature(open_artifact(tiny_artifact).spec)
    for name, model in graphs(tiny_artifact).items():
        for tensors, nodes in (
            (roles[name].inputs, model.graph.input),
            (roles[name].outputs, model.graph.output),
        ):
            assert [n.name for n in nodes] == [t.name for t in tensors]
            for node, tensor in zip(nodes, tensors, strict=True):
                dims = node.type.tensor_type.shape.dim
                assert dims[0].dim_param
                assert tuple(d.dim_value for d in dims[1:]) == tensor.shape


def test_the_manifest_hashes_every_other_file(tiny_artifact: Path) -> None:
    data = json.loads((tiny_artifact / "manifest.json").read_text())
    assert data["format"] == 2
    assert all(len(h) == 64 for h in data["files"].values())


def test_the_manifest_says_what_each_graph_is_and_what_made_it(tiny_artifact: Path) -> None:
    artifact = open_artifact(tiny_artifact)
    for graph in artifact.graphs:
        model = onnx.load(tiny_artifact / graph.file, load_external_data=False)
        assert (graph.opset, graph.precision) == (23, "fp32")
        assert graph.nodes == len(model.graph.node) == sum(graph.operators.values())
        assert graph.inputs == described(signature(artifact.spec)[graph.role].inputs)
    assert {"torch", "onnx", "onnxscript"} <= set(artifact.tools)


def test_every_weight_keeps_its_name_and_is_stored_where_pytorch_reads_it(tiny_artifact: Path) -> None:
    """So a fine-tuned model can refit an engine by name, and all graphs share one file."""
    stored = {**stored_tensors(tiny_artifact / WEIGHTS), **stored_tensors(tiny_artifact / EMBEDDINGS)}
    used: set[str] = set()
    for name, graph in graphs(tiny_artifact).items():
        for tensor in graph.graph.initializer:
            if tensor.external_data:
                place = {e.key: e.value for e in tensor.external_data}
                known = stored[tensor.name]
                assert (place["location"], int(place["offset"])) == (known.file, known.offset), name
                assert tuple(tensor.dims) == known.shape
                used.add(tensor.name)
            else:
                assert tensor.name not in stored
    assert used == set(stored)


@pytest.mark.slow
def test_weights_are_never_read_while_a_graph_is_made(tmp_path: Path) -> None:
    """Graphs are made from the parameters' places alone: here the file does not even exist."""
    config = replace(tiny.DIT, double_blocks=1, single_blocks=0)
    dit = tiny.dit(config)
    stored = {
        n: Stored("absent.safetensors", 8, p.numel() * 2, "BF16", tuple(p.shape), n)
        for n, p in dit.named_parameters()
    }
    for p in dit.parameters():
        p.data.fill_(float("nan"))
    spec = tiny.world_model().spec(name="tiny", fps=16, steps=2, first_steps=3)
    graph = export_role(dit.squeeze, graphs_of(spec)["squeeze"], places(dit.squeeze, dit, stored), tmp_path)
    assert "squeeze.cross.attn.to_q.weight" in {t.name for t in graph.graph.initializer}
    assert b"nan" not in graph.SerializeToString()


@pytest.mark.slow
def test_a_bias_of_zeros_stays(tmp_path: Path) -> None:
    """The optimiser would drop it, and a fine-tuned bias would then be lost."""
    conv = torch.nn.Conv2d(2, 3, 1)
    torch.nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    save_file(conv.state_dict(), tmp_path / "w.safetensors")
    role = Role((Tensor("x", (2, 4, 4)),), (Tensor("y", (3, 4, 4)),))
    stored = stored_tensors(tmp_path / "w.safetensors")
    contract = GraphContract(("conv",), (role,))
    graph = export_role(conv, contract, places(conv, conv, stored), tmp_path)
    assert {t.name for t in graph.graph.initializer} == {"weight", "bias"}


def test_a_parameter_without_a_place_is_named() -> None:
    dit = tiny.dit()
    with pytest.raises(ModelFilesError, match=r"squeeze\..* is in none of the weight files"):
        places(dit.squeeze, dit, {})


def test_a_weight_of_another_shape_is_named() -> None:
    dit = tiny.dit()
    stored = {"squeeze.norm.weight": Stored("w", 8, 4, "F16", (2,), "squeeze.norm.weight")}
    with pytest.raises(
        ModelFilesError, match=r"squeeze\.norm\.weight is \(2,\) in w, but \(32,\) in the model"
    ):
        places(dit.squeeze.norm, dit, stored)


@pytest.mark.parametrize(
    "data", [b"", b"short", b"\x05\0\0\0\0\0\0\0{    ", b"\xff" * 40, b"\3\0\0\0\0\0\0\0[0]"]
)
def test_a_file_that_is_not_a_weight_file_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "w.safetensors").write_bytes(data)
    with pytest.raises(ModelFilesError, match=r"w\.safetensors is not a safetensors file") as e:
        stored_tensors(tmp_path / "w.safetensors")
    assert e.value.field == "w.safetensors"


def test_one_name_in_two_shards_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_file({"w": torch.zeros(2)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(ModelFilesError, match=r"w is in both a\.safetensors and b\.safetensors"):
        all_stored([tmp_path / "a.safetensors", tmp_path / "b.safetensors"])


@pytest.fixture
def old(tiny_artifact: Path, tmp_path: Path) -> Path:
    """The format that version 0.1 wrote."""
    copy = Path(shutil.copytree(tiny_artifact, tmp_path / "old"))
    data = json.loads((copy / "manifest.json").read_text())
    data["roles"] = {g["role"]: g["file"] for g in data.pop("graphs")}
    del data["tools"], data["evidence"]
    (copy / "manifest.json").write_text(json.dumps({**data, "format": 1}))
    return copy


def test_an_older_manifest_is_rewritten_from_its_graphs(old: Path, tiny_artifact: Path) -> None:
    assert main(["upgrade", str(old)]) == 0
    assert open_artifact(old).graphs == open_artifact(tiny_artifact).graphs


def test_a_changed_file_is_not_accepted(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (old / WEIGHTS).open("ab") as f:
        f.write(b"x")
    assert main(["upgrade", str(old)]) == 2
    assert "corrupt or was changed" in capsys.readouterr().err
    assert json.loads((old / "manifest.json").read_text())["format"] == 1


def test_a_new_manifest_is_not_upgraded(tiny_artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["upgrade", str(tiny_artifact)]) == 2
    assert "only format 1 can be rewritten" in capsys.readouterr().err
