"""Full-size graphs: made without reading weights, equal to PyTorch, their operators counted."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.backends.artifact import Artifact, open_artifact
from engine.errors import InvalidInput, ModelFilesError
from engine.model.config import HunyuanConfig
from engine.model.framepack.transformer import FramePackDiT
from engine.model.presets import PRESETS, Preset
from engine.model.signature import signature
from export.cli import main
from export.framepack.export import export_full, hollow, roles_of, shapes, shrunk
from export.graph import example
from tests.engine.backends import test_full
from tests.engine.backends.test_full import SERVE

HUNYUAN = HunyuanConfig(text_dim=32, pooled_dim=16, image_dim=24, refiner_layers=1)
CONFIG = replace(test_full.CONFIG, single_blocks=1, hunyuan=HUNYUAN)  # one of each: exporting takes long
NAME = "framepack-f1"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # exporting takes a minute on a busy machine


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted checkpoint in two shards, tiny, its graphs in fp32."""
    made = tmp_path_factory.mktemp("full")
    source, out = made / "converted", made / "onnx"
    source.mkdir()
    torch.manual_seed(0)
    state = {n: t.to(torch.bfloat16) for n, t in FramePackDiT(CONFIG).state_dict().items()}
    names = sorted(state)
    for number, part in enumerate((names[::2], names[1::2]), 1):
        save_file({n: state[n] for n in part}, source / f"model-0000{number}-of-00002.safetensors")
    data = {"format": 1, "preset": NAME, "config": asdict(CONFIG), "serve": SERVE}
    (source / "config.json").write_text(json.dumps(data))
    export_full(NAME, out, weights=source, precisions=["fp32"])
    return out


@pytest.fixture(scope="module")
def artifact(folder: Path) -> Artifact:
    return open_artifact(folder, needs=())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {n: t for shard in sorted(folder.glob("*.safetensors")) for n, t in load_file(shard).items()}


def test_graphs_equal_pytorch_on_the_same_shards(folder: Path, artifact: Artifact) -> None:
    """Stored as bf16, computed in fp32 on a CPU; padded prompts with their masks."""
    dit = FramePackDiT(CONFIG)
    dit.load_state_dict({n: t.float() for n, t in weights(folder).items()})
    dit.eval()
    roles = signature(artifact.spec)
    for role, module in roles_of(dit, roles).items():
        session = ort.InferenceSession(str(folder / f"{role}.onnx"), providers=["CPUExecutionProvider"])
        torch.manual_seed(1)
        given = {t.name: example(t, 3) for t in roles[role].inputs}
        for name, x in given.items():
            if name.endswith("mask"):
                x.copy_((x > 0.3).float())
        used = {i.name for i in session.get_inputs()}
        out = session.run(None, {n: x.numpy() for n, x in given.items() if n in used})
        with torch.inference_mode():
            expected = module(*given.values())
        for a, b in zip(out, expected if isinstance(expected, tuple) else (expected,), strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-3, atol=2e-4, err_msg=role)


def test_a_transformer_alone_is_verified_segment_by_segment(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its surroundings are stand-ins, the same on both sides; every control is noticed."""
    assert main(["verify", str(folder), "--segments", "3", "--batch", "2", "--record"]) == 0
    out = capsys.readouterr().out
    for role in ("initial_memory", "memorize", "squeeze", "denoise"):
        assert f"{role:15s} " in out
    assert "MISSED" not in out
    assert out.count(", noticed") >= 5  # ψ is hidden from a denoiser that was never trained with it
    assert "after 3 segments, batch 2: " in out
    (found,) = open_artifact(folder, needs=()).evidence
    assert (found["level"], found["backend"]) == ("parity", "onnxruntime")


def test_operators_are_counted(artifact: Artifact) -> None:
    """One double and one single block, one layer of the refiner, one layer of memory."""
    denoise = artifact.graph("denoise").operators
    assert denoise["Attention"] == 1 + 1 + 1
    assert denoise["RotaryEmbedding"] == 2 * (1 + 1)
    assert denoise["RMSNormalization"] == 4 + 2 * 1
    memorize, squeeze = artifact.graph("memorize").operators, artifact.graph("squeeze").operators
    assert (memorize["Attention"], squeeze["Attention"]) == (2, 1)
    for graph in artifact.graphs:
        assert graph.opset == 23
        assert not {"Loop", "If", "Scan", "SequenceAt"} & set(graph.operators), graph.role


def test_initialisers_keep_their_names_and_lie_in_the_shards(folder: Path) -> None:
    known = weights(folder)
    found: set[str] = set()
    for file in folder.glob("*.onnx"):
        model = onnx.load(file, load_external_data=False)
        found |= {t.name for t in model.graph.initializer if t.external_data}
        assert file.stat().st_size < 2**21
    assert found <= set(known)
    assert {n for n in known if "image_projection" not in n} == found


@pytest.mark.slow
def test_a_few_layers_with_random_weights_are_made_in_bf16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = Preset("tiny", CONFIG, fps=24, steps=4)
    monkeypatch.setitem(PRESETS, "memorypack-1b3", few)
    words = ["onnx", "--model", "memorypack-1b3", "--layers", "1,0", "--precision", "bf16"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    artifact = open_artifact(tmp_path, needs=())
    assert artifact.config["layers"] == [1, 0]
    graph = artifact.graph("denoise", "bf16")
    assert graph.operators["RotaryEmbedding"] == 2
    assert {t["dtype"] for t in (*graph.inputs, *graph.outputs)} == {"float32"}
    model = onnx.load(tmp_path / graph.file, load_external_data=False)
    kinds = {t.data_type for t in model.graph.initializer if t.external_data}
    assert kinds == {onnx.TensorProto.BFLOAT16}


def test_the_network_without_weights_takes_no_memory() -> None:
    """13 billion parameters at a glance: memory that is never touched is never given."""
    dit = hollow(CONFIG, torch.bfloat16)
    assert {p.dtype for p in dit.parameters()} == {torch.bfloat16}
    assert dit.positions.after.dtype == torch.float32
    assert float(dit.positions.after.abs().sum()) > 0


@pytest.mark.slow
@pytest.mark.parametrize(("name", "billions"), [("memorypack-1b3", 1.40), ("framepack-f1", 13.17)])
def test_the_whole_models_shapes_are_the_contracts(name: str, billions: float) -> None:
    """On the meta device: every role of the full network and its companions (LLaMA's 8 billion parameters
    and the others), no weights."""
    with torch.inference_mode():
        parameters, found = shapes(name, batch=2)
    assert parameters / 1e9 == pytest.approx(billions, abs=0.01)
    config = PRESETS[name].config
    assert found["denoise"] == [("velocity", (2, config.segment, 16, 60, 104))]
    assert found["squeeze"] == [("psi_next", (2, 985, config.dim))]
    assert found["encode_text"][0] == ("text", (2, 256, 4096))
    assert found["encode_image"] == [
        ("anchor", (2, 1, 16, 60, 104)),
        ("image", (2, 729, config.dim)),
        ("state", (2, 1 + 8 * 16 * 60 * 104)),
    ]
    assert found["decode"][0] == ("frames", (2, 4 * config.segment, 3, 480, 832))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--layers", "2"], "--layers: '2' must be two numbers"),
        (["--layers", "99,2"], "must lie between 0,0 and 8,15"),
        ([], "give either --weights or --layers"),
        (["--layers", "1,1", "--precision", "fp4"], "unknown precision 'fp4'"),
    ],
)
def test_bad_wishes_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["onnx", "--model", "memorypack-1b3", "--out", str(tmp_path / "x"), *words]) == 2
    assert said in capsys.readouterr().err


def test_other_models_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="wander is not full-size"):
        export_full("wander", tmp_path, layers=(1, 1))
    with pytest.raises(InvalidInput, match="no model 'sora'"):
        export_full("sora", tmp_path, layers=(1, 1))
    with pytest.raises(ModelFilesError, match=r"config\.json not found"):
        export_full(NAME, tmp_path / "out", weights=tmp_path)
    assert shrunk(CONFIG, (0, 1)) == replace(CONFIG, double_blocks=0, single_blocks=1)
