"""TAEHV's decoder: the public file's tensors, the public network's frames, pieces that equal the whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from engine.companions.taehv import MEMORY, START, TinyDecoder
from engine.errors import InvalidInput, ModelFilesError
from tests.rigs.models import full_size

H, W = 3, 5  # latent size


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return full_size.taehv_weights()


@pytest.fixture(scope="module")
def decoder(weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> TinyDecoder:
    folder = tmp_path_factory.mktemp("taehv")
    save_file(weights, folder / "taehv.safetensors")
    return load(folder)


def load(folder: Path) -> TinyDecoder:
    return TinyDecoder.load(folder, device="cpu", dtype=torch.float32)


def latents(frames: int, *, batch: int = 1, seed: int = 1) -> Tensor:
    return torch.randn(batch, frames, 16, H, W, generator=torch.Generator().manual_seed(seed)) * 2


def zeros(decoder: TinyDecoder, batch: int = 1) -> Tensor:
    return torch.zeros(batch, decoder.state_size(H, W))


def public(w: dict[str, Tensor], z: Tensor) -> Tensor:
    """The public network, layer by layer, on a whole video (T, C, h, w) → all 4 T frames as bytes, including
    the three that it drops. Each block sees the previous frame, or zeros at the start."""

    def conv(key: str, x: Tensor) -> Tensor:
        weight = w[f"decoder.{key}.weight"]
        return F.conv2d(x, weight, w.get(f"decoder.{key}.bias"), padding=weight.shape[-1] // 2)

    x = F.relu(conv("1", torch.tanh(z / 3) * 3))
    for first, repeat in ((3, 1), (9, 2), (15, 2)):
        for i in range(first, first + 3):
            past = torch.cat([torch.zeros_like(x[:1]), x[:-1]])
            inner = F.relu(conv(f"{i}.conv.0", torch.cat([x, past], 1)))
            x = F.relu(conv(f"{i}.conv.4", F.relu(conv(f"{i}.conv.2", inner))) + x)
        x = F.interpolate(x, scale_factor=2)
        x = conv(f"{first + 4}.conv", x).reshape(len(x) * repeat, -1, *x.shape[2:])
        x = conv(str(first + 5), x)
    return (conv("22", F.relu(x)).clamp(0, 1) * 255).round().to(torch.uint8)


def stream(decoder: TinyDecoder, z: Tensor, pieces: list[int], state: Tensor | None = None) -> Tensor:
    state = zeros(decoder, len(z)) if state is None else state
    frames = []
    for piece in z.split(pieces, 1):
        out, state = decoder(piece, state)
        frames.append(out)
    return torch.cat(frames, 1)


def worst(a: Tensor, b: Tensor) -> int:
    assert a.shape == b.shape
    return int((a.int() - b.int()).abs().max())


def test_frames_are_the_public_networks(decoder: TinyDecoder, weights: dict[str, Tensor]) -> None:
    z = latents(12)
    theirs = public(weights, z[0])[START:]
    ours = stream(decoder, z, [12])
    assert ours.shape == (1, 48, 3, 8 * H, 8 * W)
    assert ours.dtype == torch.uint8
    assert worst(ours[0, START:], theirs) <= 1
    assert len(theirs.unique()) > 50


@pytest.mark.parametrize("pieces", [[1] * 20, [2] * 10, [9, 9, 2], [3, 1, 16]])
def test_pieces_equal_the_whole(decoder: TinyDecoder, pieces: list[int]) -> None:
    z = latents(20, batch=2)
    assert worst(stream(decoder, z, pieces), stream(decoder, z, [20])) <= 1


def test_it_depends_on_eight_past_latents_and_none_ahead(decoder: TinyDecoder) -> None:
    z = latents(12)
    whole = stream(decoder, z, [12])
    for changed in (1, 3, 9):
        other = z.clone()
        other[:, changed] += 1
        frames = stream(decoder, other, [12])
        touched = [
            bool((frames[:, 4 * i : 4 * i + 4] != whole[:, 4 * i : 4 * i + 4]).any()) for i in range(12)
        ]
        assert touched[:changed] == [False] * changed
        assert touched[changed]
        assert not any(touched[changed + MEMORY + 1 :])


def test_the_three_untrained_frames_are_copies_of_the_fourth(decoder: TinyDecoder) -> None:
    frames = stream(decoder, latents(3), [3])
    assert torch.equal(frames[:, :START], frames[:, START : START + 1].expand(-1, START, -1, -1, -1))
    assert not torch.equal(frames[:, START], frames[:, START + 1])


def test_a_start_picture_is_the_latent_before_the_scene(decoder: TinyDecoder) -> None:
    z = latents(7)
    begun = stream(decoder, z[:, 1:], [2, 4], decoder.begin(z[:, :1]))
    assert worst(begun, stream(decoder, z, [7])[:, 4:]) <= 1


def test_a_batch_may_mix_sessions_at_any_point(decoder: TinyDecoder) -> None:
    states = torch.cat([zeros(decoder), decoder.begin(latents(1, seed=3)), zeros(decoder)])
    states[2:] = decoder(latents(9, seed=4), zeros(decoder))[1]
    z = latents(2, batch=3)
    frames, after = decoder(z, states)
    for i in range(3):
        alone, state = decoder(z[i : i + 1], states[i : i + 1])
        assert worst(alone[0], frames[i]) <= 1
        assert torch.equal(state[0], after[i])


def test_the_state_keeps_its_size(decoder: TinyDecoder) -> None:
    state = zeros(decoder)
    assert decoder.state_size(60, 104) * 4 < 4_000_000  # 480 x 832
    for _ in range(6):
        before = state.shape
        _, state = decoder(latents(2), state)
        assert state.shape == before
        assert state.dtype == torch.float32
    with pytest.raises(InvalidInput, match=r"the state has shape \(1, 5\)"):
        decoder(latents(1), torch.zeros(1, 5))


def test_a_pth_is_read_as_plain_tensors(
    decoder: TinyDecoder, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save({k: v.half() for k, v in weights.items()}, tmp_path / "taehv.pth")
    z = latents(2)
    assert worst(stream(load(tmp_path), z, [2]), stream(decoder, z, [2])) <= 2


def test_a_pth_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"decoder.1.weight": print}, tmp_path / "taehv.pth")
    with pytest.raises(ModelFilesError, match="is not TAEHV, the fast decoder for HunyuanVideo"):
        load(tmp_path)


def test_rows_for_unused_frames_are_dropped(weights: dict[str, Tensor], tmp_path: Path) -> None:
    """In this file the first `Grow` doubles time as well; the public loader takes the later half."""
    key = "decoder.7.conv.weight"
    save_file(
        weights | {key: torch.cat([torch.zeros_like(weights[key]), weights[key]])},
        tmp_path / "taehv.safetensors",
    )
    loaded = load(tmp_path).state_dict()[key]
    assert torch.equal(loaded, weights[key])


@pytest.mark.parametrize(
    ("key", "shape", "match"),
    [
        ("decoder.4.conv.2.bias", None, "it lacks decoder.4.conv.2.bias"),
        ("decoder.8.weight", None, "it lacks 'decoder.8.weight'"),
        (
            "decoder.22.weight",
            (12, 8, 3, 3),
            r"holds decoder.22.weight as \(12, 8, 3, 3\) instead of \(3, 8, 3, 3\)",
        ),
        ("decoder.1.weight", (16, 32, 3, 3), r"holds decoder.1.weight as \(16, 32, 3, 3\)"),
        ("decoder.3.skip.weight", (1,), "has an unknown decoder.3.skip.weight"),
    ],
)
def test_another_models_file_is_refused(
    weights: dict[str, Tensor], tmp_path: Path, key: str, shape: tuple[int, ...] | None, match: str
) -> None:
    spoiled = {k: v for k, v in weights.items() if k != key}
    if shape is not None:
        spoiled[key] = torch.zeros(shape)
    save_file(spoiled, tmp_path / "taehv.safetensors")
    with pytest.raises(ModelFilesError, match=match) as e:
        load(tmp_path)
    assert "curl -L --fail -o" in e.value.message


def test_a_broken_or_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match=r"missing: taehv\.safetensors or taehv\.pth"):
        load(tmp_path)
    (tmp_path / "taehv.pth").write_bytes(b"<html>not found</html>")
    with pytest.raises(ModelFilesError, match="is not TAEHV"):
        load(tmp_path)
