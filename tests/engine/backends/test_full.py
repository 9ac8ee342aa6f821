"""The full-size model's path with a small checkpoint: the same engine, steered in the same way."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from engine.backends.base import Backend
from engine.backends.registry import load_backend
from engine.errors import InvalidInput, ModelFilesError
from engine.model.config import HunyuanConfig, MemoryConfig, ModelConfig, PackingConfig
from engine.model.framepack.transformer import FramePackDiT
from engine.model.signature import signature
from engine.runtime.segment.generator import Generator, Job
from engine.runtime.state.change import Change
from engine.runtime.state.state import SessionState
from engine.types import ByteArray, Weighted
from tests.rigs.models.full_size import write_tiny_companions

CONFIG = ModelConfig(
    latent_height=8,
    latent_width=12,
    segment=3,
    dim=32,
    heads=2,
    double_blocks=1,
    single_blocks=2,
    rope_axes=(4, 6, 6),
    actions=("idle",),
    slots=(),
    prior_variance=0.0,
    packing=PackingConfig(anchor_cap=30),
    memory=MemoryConfig(text_tokens=256, image_tokens=(4, 4), window=(3, 2, 3), key_bias=-10.0),
    hunyuan=HunyuanConfig(text_dim=32, pooled_dim=16, image_dim=24),
)
SERVE = {"height": 64, "width": 96, "fps": 30, "steps": 3, "shift": 7}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_tiny_companions(tmp_path_factory.mktemp("full"))
    torch.manual_seed(0)
    state = FramePackDiT(CONFIG).state_dict()
    names = sorted(state)
    half = len(names) // 2
    for number, part in enumerate((names[:half], names[half:]), 1):
        save_file({n: state[n] for n in part}, folder / f"model-0000{number}-of-00002.safetensors")
    data = {"format": 1, "preset": "framepack-f1", "config": asdict(CONFIG), "serve": SERVE}
    (folder / "config.json").write_text(json.dumps(data))
    return folder


@pytest.fixture(scope="module")
def backend(folder: Path) -> Backend:
    return load_backend("onnxruntime", "framepack-f1", folder)


def picture(seed: int) -> ByteArray:
    return np.random.default_rng(seed).integers(0, 256, (3, 64, 96), dtype=np.uint8)


def test_every_role_keeps_the_contract(backend: Backend) -> None:
    rng = np.random.default_rng(0)
    for role, contract in signature(backend.spec).items():
        given = {}
        for t in contract.inputs:
            shape = (2, *t.shape)
            values = rng.random(shape) if t.dtype == "float32" else rng.integers(0, 4, shape)
            given[t.name] = values.astype(t.dtype)
        if "ids" in given:
            ids, mask = backend.tokenize("a red fox in the snow")
            given = {"ids": np.stack([ids] * 2), "mask": np.stack([mask] * 2)}
        out = backend.run(role, given)
        assert {t.name: (out[t.name].shape, str(out[t.name].dtype)) for t in contract.outputs} == {
            t.name: ((2, *t.shape), t.dtype) for t in contract.outputs
        }


def test_a_session_goes_on_from_a_picture_and_obeys_its_prompt(backend: Backend) -> None:
    player = Generator(backend)
    videos = []
    for prompt in ("a red fox", "a red fox", "rain over the city"):
        state = SessionState.zeros(backend.spec)
        player.conditioner.start_scene(state, prompt, seed=1, scene=0, image=picture(1))
        made = []
        for _ in range(3):
            latents = player.denoise([Job(state, 0)])
            segment = player.finish([Job(state, 0)], latents)[0]
            assert segment.frames is not None
            assert segment.frames.shape == (12, 64, 96, 3)
            made.append(segment.latents)
        assert bool(state.psi_mask.all())
        assert np.isfinite(state.psi).all()
        videos.append(np.stack(made))
    np.testing.assert_array_equal(videos[0], videos[1])
    assert float(np.abs(videos[0] - videos[2]).max()) > 1e-3


def test_what_a_prompt_is_padded_with_has_no_say(backend: Backend) -> None:
    """The mask of the prompt reaches the transformer and the first squeeze, and no further."""
    player = Generator(backend)
    state = SessionState.zeros(backend.spec)
    player.conditioner.start_scene(state, "a red fox", seed=1, scene=0, image=picture(1))
    words = int(state.text_mask.sum())
    assert 0 < words < backend.spec.text_tokens
    np.testing.assert_array_equal(state.psi_mask[:256], state.text_mask)
    other = state.copy()
    other.text, other.psi = state.text.copy(), state.psi.copy()
    other.text[words:] += 3
    other.psi[words:256] += 3
    a, b = (player.denoise([Job(s, 0)]) for s in (state, other))
    assert a is not None
    assert b is not None
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_reconditioning_equals_a_session_that_always_had_the_prompt(backend: Backend) -> None:
    player = Generator(backend)
    old, new = (SessionState.zeros(backend.spec) for _ in range(2))
    for state, prompt in ((old, "a red fox"), (new, "rain over the city")):
        player.conditioner.start_scene(state, prompt, seed=1, scene=0, image=picture(1))
    rng = np.random.default_rng(3)
    for _ in range(4):
        latents = rng.standard_normal((1, 3, 16, 8, 12)).astype(np.float32)
        for state in (old, new):
            player.finish([Job(state, 0)], latents)
    assert not np.array_equal(old.psi, new.psi)
    player.conditioner.recondition(old, "rain over the city")
    np.testing.assert_array_equal(old.psi, new.psi)


def test_a_soft_change_between_prompts_of_different_lengths_ends_at_the_new_one(backend: Backend) -> None:
    player = Generator(backend)
    soft, hard = (SessionState.zeros(backend.spec) for _ in range(2))
    for state in (soft, hard):
        player.conditioner.start_scene(state, "a red fox", seed=1, scene=0, image=picture(1))
    player.conditioner.recondition(hard, "rain over the city at night")
    lengths, steps = [soft.text_mask.sum()], []
    for n in range(4):
        before = soft.pooled
        player.conditioner.prepare(
            [(soft, Change((Weighted("rain over the city at night"),), 4) if n == 0 else Change())]
        )
        lengths.append(soft.text_mask.sum())
        steps.append(np.abs(soft.pooled - before).sum())
    assert lengths == sorted(lengths)
    assert len(set(lengths)) == 2
    np.testing.assert_allclose(steps, steps[0], rtol=1e-3)
    for name, array in hard.arrays().items():
        np.testing.assert_array_equal(soft.arrays()[name], array, err_msg=name)
    assert not soft.fading


def test_another_models_name_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="--weights goes with --model"):
        load_backend("onnxruntime", "wander", folder)
    with pytest.raises(ModelFilesError, match="of 'framepack-f1', needed is 1 of 'memorypack-1b3'"):
        load_backend("onnxruntime", "memorypack-1b3", folder)
    with pytest.raises(InvalidInput, match="is no folder"):
        load_backend("onnxruntime", "framepack-f1", folder / "nowhere")


def test_the_exact_decoder_is_a_word_in_the_config(folder: Path, tmp_path: Path) -> None:
    """Then TAEHV's file is not asked for; a word that there is not is refused."""
    for file in folder.iterdir():
        if file.name not in ("config.json", "taehv.safetensors", "taehv.pth"):
            (tmp_path / file.name).symlink_to(file)
    data = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(data))
    with pytest.raises(ModelFilesError, match="taehv"):
        load_backend("onnxruntime", "framepack-f1", tmp_path)
    data["serve"]["decoder"] = "vae"
    (tmp_path / "config.json").write_text(json.dumps(data))
    player = Generator(load_backend("onnxruntime", "framepack-f1", tmp_path))
    state = SessionState.zeros(player.spec)
    player.conditioner.start_scene(state, "a red fox", seed=1, scene=0, image=picture(1))
    for _ in range(2):
        latents = player.denoise([Job(state, 0)])
        frames = player.finish([Job(state, 0)], latents)[0].frames
        assert frames is not None
        assert frames.shape == (12, 64, 96, 3)
    data["serve"]["decoder"] = "best"
    (tmp_path / "config.json").write_text(json.dumps(data))
    with pytest.raises(ModelFilesError, match="decoder is 'best', must be one of 'taehv', 'vae'"):
        load_backend("onnxruntime", "framepack-f1", tmp_path)


def test_companions_of_other_sizes_are_refused(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        if file.name != "config.json":
            (tmp_path / file.name).symlink_to(file)
    data = json.loads((folder / "config.json").read_text())
    data["config"]["hunyuan"]["pooled_dim"] = 24
    (tmp_path / "config.json").write_text(json.dumps(data))
    with pytest.raises(ModelFilesError, match="text_encoder_2 gives 16 numbers, the transformer needs 24"):
        load_backend("onnxruntime", "framepack-f1", tmp_path)


@pytest.mark.parametrize("what", ["missing", "misshaped", "extra"])
def test_weights_that_do_not_fit_are_named(folder: Path, tmp_path: Path, what: str) -> None:
    state = {k: v.contiguous() for k, v in FramePackDiT(CONFIG).state_dict().items()}
    for file in folder.iterdir():
        if not file.name.startswith("model-"):
            (tmp_path / file.name).symlink_to(file)
    if what == "missing":
        del state["proj_out.bias"]
    elif what == "misshaped":
        state["proj_out.bias"] = torch.zeros(3)
    else:
        state["proj_in.bias"] = torch.zeros(3)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ModelFilesError, match=r"proj_(out|in)\.bias.*convert it again"):
        load_backend("onnxruntime", "framepack-f1", tmp_path)
