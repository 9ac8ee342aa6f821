"""Rotations are FramePack's to the last index: what diffusers computes for each piece, pooled ones too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.companions.libraries import library
from engine.model.config import ModelConfig
from engine.model.packing import Positions
from engine.model.presets import PRESETS
from tests.rigs.models import framepack


def full_size(height: int, width: int) -> ModelConfig:
    """FramePack-F1's heads, indices and segment; blocks and widths don't matter here."""
    return framepack.at_size(PRESETS["framepack-f1"].config, height, width)


def theirs(c: ModelConfig, indices: dict[str, list[int]]) -> Tensor:
    """(2, N, head_dim / 2): 4x, 2x, anchor, 1x, noisy as diffusers computes and pools them. It writes every
    value twice, once for each of a pair."""
    config = {**framepack.public_config(c), "num_layers": 1, "num_single_layers": 1, "num_refiner_layers": 1}
    with torch.device("meta"):
        model = library("diffusers").HunyuanVideoFramepackTransformer3DModel(**config)
    rows, columns = c.latent_height // 2, c.latent_width // 2

    def piece(name: str, kernel: int) -> Tensor:
        rope: Any = model.rope(
            torch.tensor(indices[name]), c.latent_height, c.latent_width, torch.device("cpu")
        )
        if kernel > 1:
            rope = model._pad_rotary_emb(rope, rows, columns, (kernel,) * 3)
        return torch.stack([r.reshape(-1, c.head_dim) for r in rope])

    both = torch.cat(
        [
            piece("indices_latents_history_4x", 4),
            piece("indices_latents_history_2x", 2),
            piece("indices_latents_clean", 1),
            piece("indices_latents", 1),
        ],
        1,
    )
    assert torch.equal(both[..., ::2], both[..., 1::2])
    return both[..., ::2]


def ours(c: ModelConfig, index: int = 0) -> Tensor:
    return torch.stack([r[0, 0] for r in Positions(c)(torch.tensor([float(index)]))])


@pytest.mark.parametrize(("height", "width"), [(60, 104), (52, 120), framepack.PADDED, (76, 80), (2, 4)])
def test_every_piece_turns_as_in_framepack_f1(height: int, width: int) -> None:
    """The 480 x 832 bucket and others; 20 x 28 and 76 x 80 need padding before they are pooled."""
    c = full_size(height, width)
    assert torch.equal(ours(c), theirs(c, framepack.f1_indices(c)))


@pytest.mark.parametrize("before", [0, 1, 3])
def test_every_piece_turns_as_in_framepack_f0(before: int) -> None:
    """With blanks before the segment: turning pooled rotations on is pooling the turned ones, but for
    rounding."""
    c = full_size(*framepack.PADDED)
    c = replace(c, packing=replace(c.packing, order="f0"))
    expected = theirs(c, framepack.f0_indices(c, before))
    torch.testing.assert_close(ours(c, before), expected, atol=5e-6, rtol=0)


def test_pooled_rotations_are_as_short_as_framepacks() -> None:
    """Averages, not renormalised. Lengths with the axes (4, 6, 6): 0.83 on average at 4x, 0.95 at 2x."""
    c = framepack.at_size(framepack.CONFIG, *framepack.PADDED)
    length = ours(c).pow(2).sum(0).sqrt()
    far, middle = 4 * 3 * 4, 5 * 7
    pieces = length.split([far, middle, len(length) - far - middle])
    assert [round(float(p.mean()), 2) for p in pieces] == [0.83, 0.95, 1.0]
    assert [round(float(p.min()), 2) for p in pieces] == [0.47, 0.88, 1.0]
