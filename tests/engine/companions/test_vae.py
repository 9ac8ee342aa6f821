"""HunyuanVideo's autoencoder equals diffusers', and its stream joins segments as FramePack does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine.companions.libraries import library
from engine.companions.vae import Vae
from engine.companions.vae_stream import SEAM, VaeDecoder, pack, unpack
from engine.errors import InvalidInput, ModelFilesError
from engine.model.pixels import to_bytes
from tests.rigs.models import full_size

H, W = 4, 6  # latent size
SEGMENT = 3
OVERLAP = 4 * SEGMENT - 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vae")
    torch.manual_seed(0)
    full_size.write_vae(path)
    return path


@pytest.fixture(scope="module")
def vae(folder: Path) -> Vae:
    return Vae.load(folder, device="cpu", dtype=torch.float32)


@pytest.fixture(scope="module", params=[True, False], ids=["late", "at once"])
def decoder(vae: Vae, request: pytest.FixtureRequest) -> VaeDecoder:
    return VaeDecoder(vae, segment=SEGMENT, late=request.param)


def latents(frames: int, *, batch: int = 1, seed: int = 1) -> Tensor:
    return torch.randn(batch, frames, 16, H, W, generator=torch.Generator().manual_seed(seed))


def zeros(decoder: VaeDecoder, batch: int = 1) -> Tensor:
    return torch.zeros(batch, decoder.state_size(H, W))


def stream(decoder: VaeDecoder, z: Tensor, state: Tensor) -> Tensor:
    """All frames of consecutive segments."""
    frames = []
    for segment in z.split(SEGMENT, 1):
        out, state = decoder(segment, state)
        frames.append(out)
    return torch.cat(frames, 1)


def framepack(vae: Vae, start: Tensor, z: Tensor) -> Tensor:
    """The video as FramePack-F1's demo composes it (demo_gradio_f1.py, soft_append_bcthw), as floats."""
    history, video = start, torch.empty(0)
    for segment in z.split(SEGMENT, 1):
        history = torch.cat([history, segment], 1)
        if not len(video):
            video = vae.decode(history)
            continue
        new = vae.decode(history[:, -2 * SEGMENT :])
        fade = torch.linspace(1, 0, OVERLAP)[None, :, None, None, None]
        both = fade * video[:, -OVERLAP:] + (1 - fade) * new[:, :OVERLAP]
        video = torch.cat([video[:, :-OVERLAP], both, new[:, OVERLAP:]], 1)
    return video


def test_encode_is_the_scaled_mode_of_diffusers_distribution(folder: Path, vae: Vae) -> None:
    g = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (2, 3, 8 * H, 8 * W), generator=g, dtype=torch.uint8)
    model = library("diffusers").AutoencoderKLHunyuanVideo.from_pretrained(
        folder / "vae", low_cpu_mem_usage=False
    )
    with torch.no_grad():
        mean = model.encode((pixels.float() / 127.5 - 1)[:, :, None]).latent_dist.mean
    ours = vae.encode(pixels)
    assert ours.shape == (2, 1, 16, H, W)
    torch.testing.assert_close(ours[:, 0], mean[:, :, 0] * 0.476986, atol=1e-5, rtol=1e-5)
    assert torch.equal(ours, vae.encode(pixels))


def test_decode_is_diffusers_own(folder: Path, vae: Vae) -> None:
    z = latents(2 * SEGMENT, batch=2)  # more than four latents: decoded in overlapping pieces of time
    model = library("diffusers").AutoencoderKLHunyuanVideo.from_pretrained(
        folder / "vae", low_cpu_mem_usage=False
    )
    with torch.no_grad():
        theirs = model.decode(z.transpose(1, 2) / 0.476986).sample.transpose(1, 2)
    ours = vae.decode(z)
    assert ours.shape == (2, 8 * SEGMENT - 3, 3, 8 * H, 8 * W)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_a_late_stream_is_framepacks_video(vae: Vae) -> None:
    decoder = VaeDecoder(vae, segment=SEGMENT, late=True)
    start, z = latents(1, seed=7), latents(4 * SEGMENT)
    video = framepack(vae, start, z)
    assert video.abs().max() < 1  # else clamping would hide differences
    ours = stream(decoder, z, decoder.begin(start))
    assert ours.shape == (1, 16 * SEGMENT, 3, 8 * H, 8 * W)
    held, late = ours[:, :OVERLAP], ours[:, OVERLAP - 1 :]
    assert torch.equal(held, held[:, :1].expand_as(held))
    theirs = to_bytes(video[:, : late.shape[1]])
    assert (late.int() - theirs.int()).abs().max() <= 1  # kept frames are rounded to whole levels
    assert len(theirs.unique()) > 20


def test_a_stream_at_once_is_the_newest_decoding_without_a_jump(vae: Vae) -> None:
    decoder = VaeDecoder(vae, segment=SEGMENT, late=False)
    start, z = latents(1, seed=7), latents(2 * SEGMENT)
    ours = stream(decoder, z, decoder.begin(start))
    first, second = vae.decode(torch.cat([start, z[:, :SEGMENT]], 1)), vae.decode(z)
    assert torch.equal(ours[:, : 4 * SEGMENT], to_bytes(first[:, 1:]))
    new = second[:, OVERLAP:]
    jump = first[:, -1] - second[:, OVERLAP - 1]  # two decodings of one frame
    assert jump.abs().max() > 0.01
    for k in range(4 * SEGMENT):
        wanted = to_bytes(new[:, k] + max(0, 1 - (k + 1) / SEAM) * jump)
        assert (ours[:, 4 * SEGMENT + k].int() - wanted.int()).abs().max() <= 1


def test_without_a_start_picture_the_first_latent_takes_its_place(decoder: VaeDecoder) -> None:
    z = latents(2 * SEGMENT)
    assert torch.equal(stream(decoder, z, zeros(decoder)), stream(decoder, z, decoder.begin(z[:, :1])))
    assert not torch.equal(
        stream(decoder, z, zeros(decoder)), stream(decoder, z, decoder.begin(latents(1, seed=7)))
    )


def test_a_batch_may_mix_sessions_at_any_point(decoder: VaeDecoder) -> None:
    z = latents(SEGMENT, batch=3)
    running = decoder(latents(SEGMENT, seed=9), zeros(decoder))[1]
    states = torch.cat([running, zeros(decoder), decoder.begin(latents(1, seed=7))])
    frames, after = decoder(z, states)
    for i in range(3):
        alone, state = decoder(z[i : i + 1], states[i : i + 1])
        assert (alone[0].int() - frames[i].int()).abs().max() <= 1
        assert torch.equal(state[:, 1 : 1 + z[i].numel()], after[i : i + 1, 1 : 1 + z[i].numel()])


def test_the_state_has_a_constant_size_and_determines_the_output(decoder: VaeDecoder) -> None:
    z = latents(5 * SEGMENT)
    state = zeros(decoder)
    for i, segment in enumerate(z.split(SEGMENT, 1)):
        before = state.clone()
        frames, state = decoder(segment, state)
        again, _ = decoder(segment, torch.from_numpy(before.numpy().copy()))
        assert frames.shape == (1, 4 * SEGMENT, 3, 8 * H, 8 * W)
        assert frames.dtype == torch.uint8
        assert state.shape == before.shape
        assert torch.equal(frames, again), i


@pytest.mark.parametrize("segment", [1, 2])
@pytest.mark.parametrize("late", [True, False])
def test_short_segments_stream_too(vae: Vae, segment: int, late: bool) -> None:
    decoder = VaeDecoder(vae, segment=segment, late=late)
    state = zeros(decoder)
    for z in latents(3 * segment).split(segment, 1):
        frames, state = decoder(z, state)
        assert frames.shape[1] == 4 * segment


def test_pixels_are_packed_exactly() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    frames = torch.stack([every, every.flip(0), every.roll(77)]).reshape(1, 1, 3, 16, 16)
    packed = pack(frames)
    assert packed.shape == (1, 256)
    assert torch.equal(unpack(packed, 1, 16, 16), frames)
    white = torch.full((1, 1, 3, 1, 1), 255, dtype=torch.uint8)
    assert pack(white).item() == 2**24 - 1


def test_shapes_of_another_decoder_are_refused(decoder: VaeDecoder) -> None:
    with pytest.raises(InvalidInput, match="2 latents were given, but the decoder takes 3"):
        decoder(latents(2), zeros(decoder))
    with pytest.raises(InvalidInput, match=r"the state has shape \(1, 7\)"):
        decoder(latents(SEGMENT), torch.zeros(1, 7))


def test_tiling_is_diffusers_own(folder: Path) -> None:
    tiled = Vae.load(folder, device="cpu", dtype=torch.float32, tiling=True)
    whole = Vae.load(folder, device="cpu", dtype=torch.float32)
    z = torch.randn(1, 1, 16, 2, 34, generator=torch.Generator().manual_seed(1))
    a, b = tiled.decode(z), whole.decode(z)  # 272 pixels wide: two tiles
    assert a.shape == b.shape
    assert not torch.equal(a, b)


def test_a_missing_autoencoder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match="vae: HunyuanVideo's autoencoder, 493 MB, Tencent Hunyuan"):
        Vae.load(tmp_path, device="cpu", dtype=torch.float32)
