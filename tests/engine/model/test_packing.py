"""Packing: what each piece of context costs, in which order the pieces stand, what their kernels do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.model.config import ModelConfig, PackingConfig
from engine.model.packing import KERNELS, CleanEmbed, PatchEmbed, Positions, pieces
from tests.rigs.engine import tiny

WANDER = ModelConfig(packing=PackingConfig(anchor_kernel="2x"))


def context(c: ModelConfig) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    frame = (c.channels, c.latent_height, c.latent_width)
    return torch.randn(1, 19, *frame, generator=g), torch.randn(1, 1, *frame, generator=g)


@pytest.mark.parametrize(
    ("config", "counts"),
    [
        (tiny.DIT, (8, 6, 6, 15)),  # 4 x (1 x 2), 1 x (2 x 3), anchor at 2x, 3 x 5
        (WANDER, (24, 15, 15, 60)),  # 4 x (2 x 3), 1 x (3 x 5), anchor at 2x, 6 x 10
        (replace(WANDER, packing=PackingConfig()), (24, 15, 60, 60)),
    ],
)
@torch.no_grad()
def test_pieces_cost_what_their_kernels_say_and_stand_in_framepacks_order(
    config: ModelConfig, counts: tuple[int, ...]
) -> None:
    """4x, 2x, anchor, 1x; each token hears of its own frames only."""
    torch.manual_seed(0)
    packing = CleanEmbed(config)
    history, anchor = context(config)
    before = packing(history, anchor)
    assert before.shape[1] == sum(counts)
    starts = [sum(counts[:i]) for i in range(5)]

    def touched(frame: int | None) -> set[int]:
        """Tokens that change with that frame of the history, or with the anchor."""
        h, a = history.clone(), anchor.clone()
        (a if frame is None else h[:, frame]).add_(1.0)
        return set((packing(h, a) != before).any(-1)[0].nonzero()[:, 0].tolist())

    per_4x = counts[0] // 4
    for frame in range(16):
        first = frame // 4 * per_4x
        assert touched(frame) == set(range(first, first + per_4x))
    for frame in (16, 17):
        assert touched(frame) == set(range(starts[1], starts[2]))
    assert touched(None) == set(range(starts[2], starts[3]))
    assert touched(18) == set(range(starts[3], starts[4]))


@pytest.mark.parametrize("config", [tiny.DIT, WANDER])
def test_every_token_has_a_position(config: ModelConfig) -> None:
    torch.manual_seed(0)
    packed = CleanEmbed(config)(*context(config)).shape[1]
    noisy = config.segment * (config.latent_height // 2) * (config.latent_width // 2)
    cos, sin = Positions(config)(torch.zeros(3))
    assert cos.shape == sin.shape == (3, 1, packed + noisy, config.head_dim // 2)


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize("size", [(16, 8, 16), (3, 6, 10), (1, 12, 20)])
@torch.no_grad()
def test_an_embedding_is_the_convolution_of_the_checkpoints_on_replicated_ends(
    kernel: tuple[int, int, int], size: tuple[int, int, int]
) -> None:
    torch.manual_seed(0)
    embed = PatchEmbed(4, 8, kernel)
    x = torch.randn(2, size[0], 4, *size[1:])
    video = x.transpose(1, 2)
    pad = [n for s, k in zip(size[::-1], kernel[::-1], strict=True) for n in (0, -s % k)]
    expected = F.conv3d(F.pad(video, pad, mode="replicate"), embed.weight, embed.bias, stride=kernel)
    torch.testing.assert_close(embed(x), expected.flatten(2).transpose(1, 2), atol=1e-5, rtol=0)


@torch.no_grad()
def test_tokens_go_by_time_then_height_then_width() -> None:
    torch.manual_seed(0)
    embed = PatchEmbed(1, 8, KERNELS["1x"])
    x = torch.zeros(1, 2, 1, 6, 10)
    x[0, 1, 0, 2, 6] = 1.0  # frame 1, row 1, column 3 of the 3 x 5 grid
    changed = (embed(x) != embed(torch.zeros_like(x))).any(-1)[0].nonzero()[:, 0]
    assert changed.tolist() == [15 + 5 + 3]


def test_f1_counts_from_the_anchor_to_the_segment() -> None:
    found, noisy = pieces(PackingConfig(), 9)
    assert {k: (p.first, p.start, p.frames) for k, p in found.items()} == {
        "4x": (1, 0, 16),
        "2x": (17, 16, 2),
        "1x": (19, 18, 1),
    }
    assert noisy == 20


def test_f0_has_the_history_behind_the_segment_nearest_first() -> None:
    """Index layout of inverted anti-drifting without blanks: anchor 0, noisy 1..9, 1x 10, 2x 11, 12, 4x."""
    found, noisy = pieces(PackingConfig(order="f0"), 9)
    assert {k: (p.first, p.start, p.frames) for k, p in found.items()} == {
        "1x": (10, 0, 1),
        "2x": (11, 1, 2),
        "4x": (13, 3, 16),
    }
    assert noisy == 1


@torch.no_grad()
def test_f0_blanks_lie_between_the_anchor_and_the_segment() -> None:
    """p segments still to come: everything but the anchor stands p W further on; no more than that."""
    c = replace(tiny.DIT, packing=replace(tiny.DIT.packing, order="f0", anchor_cap=1000))
    near, far = (torch.stack(Positions(c)(torch.tensor([p])))[:, 0, 0] for p in (0.0, 3.0))
    anchor = slice(8 + 6, 8 + 6 + 6)  # 4x, 2x, anchor
    changed = (near != far).any(-1).any(0)
    assert not bool(changed[anchor].any())
    assert bool(changed[: anchor.start].all() and changed[anchor.stop :].all())


@torch.no_grad()
def test_f0_reads_its_nearest_latents_in_full() -> None:
    torch.manual_seed(0)
    c = replace(tiny.DIT, packing=replace(tiny.DIT.packing, order="f0"))
    embed, (history, anchor) = CleanEmbed(c), context(c)
    other = history.clone()
    other[:, 0] += 1
    changed = (embed(history, anchor) != embed(other, anchor)).any(-1)[0]
    assert changed.nonzero()[:, 0].tolist() == list(range(8 + 6 + 6, 8 + 6 + 6 + 15))


@torch.no_grad()
def test_a_sliding_window_is_its_last_latents_and_nothing_else() -> None:
    c = replace(WANDER, packing=PackingConfig(history=(0, 0, 4), anchor_kernel="none"))
    torch.manual_seed(0)
    embed, history = CleanEmbed(c), torch.randn(1, 4, 16, 12, 20)
    tokens = embed(history, torch.zeros(1, 1, 16, 12, 20))
    assert tokens.shape[1] == 4 * 60
    assert torch.equal(tokens, embed(history, torch.ones(1, 1, 16, 12, 20)))
    assert set(dict(embed.named_parameters())) == {"proj.weight", "proj.bias"}
    cos, _ = Positions(c)(torch.tensor([0.0, 7.0]))
    assert cos.shape[2] == (4 + c.segment) * 60
    assert torch.equal(cos[0], cos[1])
