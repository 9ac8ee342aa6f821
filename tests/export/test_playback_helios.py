"""A converted Helios in the runtime compared with diffusers' pipeline: three segments from a prompt, and a
start from a picture. Small random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.backends.base import Backend
from engine.backends.pytorch import TorchBackend
from engine.backends.registry import load_backend
from engine.errors import ModelFilesError
from engine.model.helios.config import PyramidConfig
from engine.runtime.segment.continuing import after_video
from engine.runtime.segment.generator import Generator, Job
from engine.runtime.segment.noise import sampler_noise
from engine.runtime.state import snapshot
from engine.runtime.state.snapshot import Saved
from engine.runtime.state.state import SessionState
from engine.types import FloatArray, Weighted
from export.helios.convert import HeliosOptions, convert
from tests.rigs.models.helios import SMALL, make_pair
from tests.rigs.models.helios_companions import write_companions
from tests.rigs.models.helios_pipeline import their_video

C = SMALL
OPTIONS = HeliosOptions(height=128, width=192, segment=C.segment, dtype="stored")
SEEDS = (11, 12)


@pytest.fixture(scope="module")
def theirs() -> Any:
    return make_pair(C)[1]


def folder_of(theirs: Any, place: Path, **changes: Any) -> Path:
    """As docs/full-size.md says: companions first, then the checkpoint converted into the same folder."""
    theirs.save_pretrained(place / "public" / "transformer", max_shard_size="60KB")
    folder = write_companions(place / "weights", text_width=C.text_dim)
    convert(place / "public", folder, HeliosOptions(**{**vars(OPTIONS), **changes}), lambda _: None)
    return folder


@pytest.fixture(scope="module")
def folder(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(theirs, tmp_path_factory.mktemp("helios"))


@pytest.fixture(scope="module")
def backend(folder: Path) -> Backend:
    return load_backend("onnxruntime", "helios", folder)


def started(generator: Generator, image: Any = None) -> list[SessionState]:
    states = []
    for seed in SEEDS:
        state = SessionState.zeros(generator.spec)
        generator.conditioner.start_scene(state, "a red fox", seed=seed, scene=0, image=image)
        states.append(state)
    return states


def played(generator: Generator, states: list[SessionState], segments: int) -> FloatArray:
    """Latents (sessions, segments W, C, h, w), with both sessions in one batch."""
    made = []
    for _ in range(segments):
        jobs = [Job(state, 0) for state in states]
        latents = generator.denoise(jobs)
        for segment in generator.finish(jobs, latents):
            assert segment.frames is not None
            assert segment.frames.shape == (C.frames, 128, 192, 3)
        made.append(latents)
    return np.concatenate(made, 1)


def noise(row: int, segment: int, stream: int, shape: tuple[int, ...]) -> FloatArray:
    return sampler_noise(SEEDS[row], 0, segment)(stream, shape)


def text_of(states: list[SessionState]) -> torch.Tensor:
    return torch.from_numpy(np.stack([s.text for s in states]))


def continued(monkeypatch: pytest.MonkeyPatch, theirs: Any, text: torch.Tensor, **start: Any) -> FloatArray:
    """diffusers' latents of two segments after this start."""
    with torch.inference_mode():
        made = their_video(monkeypatch, theirs, C, PyramidConfig(), text, noise, segments=2, **start)
    return made[:, -2 * C.segment :].numpy()


def test_three_segments_of_two_sessions_are_diffusers(
    monkeypatch: pytest.MonkeyPatch, theirs: Any, backend: Backend
) -> None:
    generator = Generator(backend)
    states = started(generator)
    text = text_of(states)
    assert isinstance(backend, TorchBackend)
    embedder = backend.modules["denoise_0"].get_submodule("model.condition_embedder.text_embedder")
    read: list[object] = []
    hook = embedder.register_forward_hook(lambda *_: read.append(None))
    made = played(generator, states, 3)
    hook.remove()
    assert read == []  # 24 calls: the text was projected when it was set
    with torch.inference_mode():
        wanted = their_video(monkeypatch, theirs, C, PyramidConfig(), text, noise, segments=3)
    assert wanted.std() > 0.5
    assert np.abs(made - wanted.numpy()).max() <= 1e-4


def test_a_start_picture_is_the_anchor_and_the_newest_latent(
    monkeypatch: pytest.MonkeyPatch, theirs: Any, backend: Backend
) -> None:
    generator = Generator(backend)
    image = np.random.default_rng(0).integers(0, 256, (3, 128, 192), np.uint8)
    states = started(generator, image)
    anchor, newest = (
        torch.from_numpy(np.stack(rows)).transpose(1, 2)
        for rows in ([s.anchor for s in states], [s.history[-1:] for s in states])
    )
    text = text_of(states)
    assert not np.array_equal(states[0].anchor, states[1].anchor)  # the noise on it comes from the seed
    made = played(generator, states, 2)
    wanted = continued(
        monkeypatch,
        theirs,
        text,
        image_latents=anchor,
        fake_image_latents=newest,
        add_noise_to_image_latents=False,
    )
    assert np.abs(made - wanted).max() <= 1e-4
    assert states[0].from_image


def test_a_start_video_is_the_history_as_in_diffusers(
    monkeypatch: pytest.MonkeyPatch, theirs: Any, backend: Backend
) -> None:
    """Two segments after a clip of three, each encoded alone; the rest of the history is empty."""
    generator = Generator(backend)
    clip = np.random.default_rng(0).integers(0, 256, (1 + 3 * C.frames, 3, 128, 192), np.uint8)
    states = [list(after_video(generator, clip, "a red fox", seed))[-1] for seed in SEEDS]
    anchor, history = (
        torch.from_numpy(np.stack(rows)).transpose(1, 2)
        for rows in ([s.anchor for s in states], [s.history for s in states])
    )
    assert not history[:, :, : -3 * C.segment].any()
    assert isinstance(backend, TorchBackend)
    vae: Any = backend.modules["encode_video"].get_submodule("encoder")
    alone = vae.encode(torch.from_numpy(clip[None, 1 + C.frames : 1 + 2 * C.frames]))
    middle = history[:, :, -2 * C.segment : -C.segment].transpose(1, 2)
    assert (middle - 0.88 * alone).std() < 0.16  # but for the noise of a start
    text = text_of(states)
    made = played(generator, states, 2)
    wanted = continued(
        monkeypatch,
        theirs,
        text,
        image_latents=anchor,
        video_latents=history,
        add_noise_to_image_latents=False,
        add_noise_to_video_latents=False,
    )
    assert np.abs(made - wanted).max() <= 1e-4


def test_the_start_pictures_noise_is_as_strong_as_published(backend: Backend) -> None:
    assert backend.spec.start_noise == (0.111, 0.135)


def test_a_session_goes_on_from_its_snapshot_bit_for_bit(backend: Backend) -> None:
    generator = Generator(backend)
    state = started(generator)[0]
    played(generator, [state], 1)
    data = snapshot.save(backend.spec, backend.fingerprint, Saved(state, (Weighted("a red fox"),), None))
    again = snapshot.load(backend.spec, backend.fingerprint, data).state
    np.testing.assert_array_equal(played(generator, [state], 1), played(generator, [again], 1))


def test_a_session_without_psi_keeps_latents_and_text_only(backend: Backend) -> None:
    s = backend.spec
    assert s.memory_tokens == 0
    state = SessionState.zeros(s)
    frame = C.channels * C.latent_height * C.latent_width
    prompt = 512 * C.text_dim + 2
    assert state.nbytes == 4 * (20 * frame + 3 * prompt) + 8 * 12


def test_grafted_memory_is_kept_and_changes_no_latent(theirs: Any, backend: Backend, tmp_path: Path) -> None:
    """ψ is computed and saved as for any model; its gates are at 0."""
    grafted = load_backend("onnxruntime", "helios", folder_of(theirs, tmp_path, memory=True))
    plain, other = Generator(backend), Generator(grafted)
    one, two = started(plain), started(other)
    np.testing.assert_array_equal(played(plain, one, 2), played(other, two, 2))
    assert two[0].psi.shape == (grafted.spec.memory_tokens, C.dim)
    assert two[0].psi.any()
    assert two[0].remembered == 2


def test_the_autoencoder_decodes_where_it_is_asked_for(theirs: Any, tmp_path: Path) -> None:
    import json

    folder = folder_of(theirs, tmp_path)
    file = folder / "config.json"
    data = json.loads(file.read_text())
    data["serve"]["decoder"] = "vae"
    file.write_text(json.dumps(data))
    (folder / "taew2_1.safetensors").unlink()
    generator = Generator(load_backend("onnxruntime", "helios", folder))
    played(generator, started(generator), 1)


@pytest.mark.parametrize("missing", ["vae", "text_encoder", "tokenizer"])
def test_what_is_missing_is_named_with_its_command(theirs: Any, tmp_path: Path, missing: str) -> None:
    import shutil

    folder = folder_of(theirs, tmp_path)
    shutil.rmtree(folder / missing)
    with pytest.raises(ModelFilesError, match=f"{missing}: .*\n.*\n.*hf download BestWishYsh") as e:
        load_backend("onnxruntime", "helios", folder)
    assert e.value.field == missing
