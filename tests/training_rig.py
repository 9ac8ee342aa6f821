"""A tiny world of latents to train on, without pictures."""

from __future__ import annotations

import torch

from engine.model.config import ModelConfig
from engine.model.dit import MemoryPackDiT
from engine.training.chains import Chains, chains_of
from engine.training.latents import Pool
from engine.training.windows import sample_windows
from tests import tiny

LENGTH = 24


def a_pool(count: int = 6, c: ModelConfig = tiny.DIT) -> Pool:
    """Normal latents; field 0 changes at frame 8."""
    g = torch.Generator().manual_seed(1)
    shape = (count, LENGTH, c.channels, c.latent_height, c.latent_width)
    attributes = torch.zeros(count, LENGTH, 5, dtype=torch.int64)
    attributes[:, 8:, 0] = 1
    actions = torch.randint(0, 4, (count, LENGTH), generator=g)
    return Pool(torch.randn(shape, generator=g).half(), attributes, actions)


def some_chains(
    count: int = 3, segments: int = 2, *, prefix: int = 2, fresh: float = 0.0, seed: int = 5
) -> Chains:
    torch.manual_seed(seed)
    pool = a_pool()
    windows = sample_windows(pool, count, tiny.DIT.segment, segments, fresh=fresh)
    return chains_of(pool, windows, segments, prefix, tiny.DIT)


def trainable(config: ModelConfig = tiny.DIT) -> MemoryPackDiT:
    torch.manual_seed(0)
    return MemoryPackDiT(config)
