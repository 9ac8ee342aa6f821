"""A whole full-size folder, tiny and random in the public layout, as graphs: text, pictures and frames beside
the transformer, and all of it verified."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.backends.artifact import Artifact, open_artifact
from engine.backends.framepack import load
from engine.companions.image import Preprocessing
from engine.companions.sizes import framepack_spec
from engine.model.framepack.transformer import FramePackDiT
from engine.model.presets import PRESETS
from engine.model.signature import signature
from export.cli import main
from export.framepack.companions import FixedResize
from export.framepack.export import export_full
from export.framepack.reference import pytorch
from export.gates import distance
from export.graph_backend import GraphBackend
from export.tensorrt.build import parsed
from tests.engine.backends.test_full import CONFIG, SERVE
from tests.rigs.models.full_size import write_tiny_companions

NAME = "framepack-f1"
SURROUNDINGS = ("encode_text", "encode_image", "decode")
pytestmark = pytest.mark.timeout(1800)  # seven roles are exported, whichever test comes first


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = write_tiny_companions(tmp_path_factory.mktemp("whole"))
    torch.manual_seed(0)
    state = {n: t.to(torch.bfloat16) for n, t in FramePackDiT(CONFIG).state_dict().items()}
    save_file(state, folder / "model.safetensors")
    data = {"format": 1, "preset": NAME, "config": asdict(CONFIG), "serve": SERVE}
    (folder / "config.json").write_text(json.dumps(data))
    export_full(NAME, folder, weights=folder, precisions=["fp32"])
    return open_artifact(folder, needs=())


@pytest.mark.slow
def test_every_role_has_a_graph_and_the_spec_that_pytorch_serves(artifact: Artifact) -> None:
    assert {g.role for g in artifact.graphs} == set(signature(artifact.spec))
    assert artifact.spec == load(NAME, artifact.path).spec
    for graph in artifact.graphs:
        assert not {"Loop", "If", "Scan", "SequenceAt", "SplitToSequence"} & set(graph.operators), graph.role


@pytest.mark.slow
def test_companions_weights_are_stored_once_in_fp16_and_referred_to_by_name(artifact: Artifact) -> None:
    stored = load_file(artifact.file("companions.safetensors"))
    assert {str(t.dtype) for t in stored.values()} == {"torch.float16"}
    pointed: set[str] = set()
    for role in SURROUNDINGS:
        model = onnx.load(artifact.file(artifact.graph(role).file), load_external_data=False)
        pointed |= {t.name for t in model.graph.initializer if t.external_data}
    unused = {n for n in stored if n not in pointed}
    assert all(".vae.model." in n or ".post_layernorm." in n or ".head." in n for n in unused), unused
    assert {n for n in pointed if n not in stored} == {
        n for n in pointed if n.startswith("image_projection.")
    }


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3])
def test_text_pictures_and_frames_equal_pytorch(artifact: Artifact, batch: int) -> None:
    reference = pytorch(artifact, "fp32")
    candidate = GraphBackend(artifact, reference)
    rng = np.random.default_rng(batch)
    prompts = ["a red fox in the snow", "", "rain over the city at night " * 40]
    tokens = [candidate.tokenize(p) for p in prompts[:batch]]
    s = artifact.spec
    given: dict[str, dict[str, Any]] = {
        "encode_text": {"ids": np.stack([t[0] for t in tokens]), "mask": np.stack([t[1] for t in tokens])},
        "encode_image": {"pixels": rng.integers(0, 256, (batch, 3, s.height, s.width), np.uint8)},
    }
    begun = reference.run("encode_image", given["encode_image"])["state"]
    shape = (batch, s.segment, s.latent_channels, s.latent_height, s.latent_width)
    state = np.where(
        np.arange(batch)[:, None] % 2 == 0, begun, 0 * begun
    )  # with a start picture, and without
    given["decode"] = {"latents": rng.standard_normal(shape).astype(np.float32), "state": state}
    for role, inputs in given.items():
        a, b = candidate.run(role, inputs), reference.run(role, inputs)
        for name, expected in b.items():
            if expected.dtype == np.uint8:
                assert int(np.abs(a[name].astype(int) - expected.astype(int)).max()) <= 1
            else:
                most = 1e-4 if name == "image" else 1e-5  # a pixel that is rounded the other way
                assert distance(a[name], expected).rel_l2 < most, f"{role} {name}"


@pytest.mark.slow
def test_tensorrt_takes_every_graph(artifact: Artifact) -> None:
    """Its parser does not support resampling with antialiasing."""
    pytest.importorskip("tensorrt_rtx", reason="pip install 'psistream[rtx]'")
    for graph in artifact.graphs:
        layers = parsed(artifact, graph.role, "fp32", "tensorrt_rtx").layers or {}
        assert layers.get("ATTENTION_INPUT", 0) == graph.operators.get("Attention", 0), graph.role


def test_two_matrix_products_equal_resampling() -> None:
    """At the real sizes, all but one or two pixels are equal; those are rounded differently."""
    like = Preprocessing((384, 384), "bicubic", 1 / 255, (0.5,) * 3, (0.5,) * 3)
    g = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (1, 3, 480, 832), generator=g, dtype=torch.uint8)
    apart = (like(pixels) - FixedResize(like, 480, 832)(pixels)).abs()
    assert float(apart.max()) < 1.01 / 127.5
    assert int((apart > 1e-5).sum()) < 10


@pytest.mark.slow
def test_the_whole_folder_is_verified(artifact: Artifact, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(artifact.path), "--segments", "4", "--batch", "2"]) == 0
    out = capsys.readouterr().out
    for role in signature(artifact.spec):
        assert f"{role:15s} " in out
    assert "MISSED" not in out
    assert out.count(", noticed") >= 5  # ψ is hidden from a denoiser that was never trained with it


def test_the_spec_knows_its_companions_sizes() -> None:
    from export.framepack.export import serve_of

    spec = framepack_spec(NAME, PRESETS[NAME].config, serve_of(NAME))
    assert (spec.text_length, spec.decoder_state) == (428, (1 + 8 * 16 * 60 * 104,))
