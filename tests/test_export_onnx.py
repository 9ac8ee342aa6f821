"""An exported artifact: small graphs around one file of weights, with nothing of the machine in it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file

from engine.backends.artifact import WEIGHTS, open_artifact
from engine.model.signature import signature
from export.onnx import Stored, content, share_weights, stored_tensors
from tests import tiny

pytestmark = pytest.mark.timeout(600)  # the export is made in whichever test comes first


def graphs(folder: Path) -> dict[str, onnx.ModelProto]:
    return {f.stem: onnx.load(f, load_external_data=False) for f in sorted(folder.glob("*.onnx"))}


def test_an_artifact_has_a_graph_per_role_and_opens(tiny_artifact: Path) -> None:
    artifact = open_artifact(tiny_artifact)
    assert set(artifact.roles) == set(signature(artifact.spec))
    assert artifact.spec.name == "tiny"
    assert (artifact.spec.steps, artifact.spec.first_steps) == (2, 3)
    files = {f.name for f in tiny_artifact.iterdir()}
    assert set(artifact.files) == files - {"manifest.json"}


def test_graphs_are_small_and_share_the_one_file_of_weights(tiny_artifact: Path) -> None:
    """Each parameter's bytes lie in model.safetensors only, where PyTorch reads them too."""
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
    assert set(state) == set(tiny.world_model().state_dict())


def test_graphs_say_nothing_of_the_machine_they_were_made_on(tiny_artifact: Path) -> None:
    """The exporter writes a stack trace on every node."""
    here = str(Path(__file__).parent.parent).encode()
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
    assert data["format"] == 1
    assert all(len(h) == 64 for h in data["files"].values())


@pytest.mark.parametrize("turned", [False, True])
def test_a_shared_weight_reads_as_before_turned_or_not(tmp_path: Path, turned: bool) -> None:
    """The exporter folds a Linear's transpose into its weight; the stored one is not turned."""
    weight = np.arange(96, dtype=np.float32).reshape(8, 12)
    used = weight.T if turned else weight
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, used.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, used.shape[1]])],
        [numpy_helper.from_array(np.ascontiguousarray(used), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    (tmp_path / "w.bin").write_bytes(b"head" + weight.astype(np.float16).tobytes())
    place = Stored("w.bin", 4, 192, "F16", (8, 12))
    assert share_weights(model, {content(weight): place}) == 1
    onnx.save(model, tmp_path / "g.onnx")
    import onnxruntime as ort

    session = ort.InferenceSession(str(tmp_path / "g.onnx"), providers=["CPUExecutionProvider"])
    x = np.ones((1, used.shape[0]), np.float32)
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], x @ used)
