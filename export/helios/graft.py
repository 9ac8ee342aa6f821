"""Grafts SemanticPack onto Helios. Its gates start at 0, so the new model initially computes what the
checkpoint did.

Memorize starts with a copy of `patch_short`; the rest is random, from a seed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.model.helios.config import HeliosConfig
from engine.model.helios.memory import SemanticPack

PLACE = "semantic_pack."
COPIES = {f"{PLACE}memorize.embed.{leaf}": f"patch_short.{leaf}" for leaf in ("weight", "bias")}


class HeliosGraft:
    """The tensors of a Helios with memory that the checkpoint lacks, except COPIES, which come from the
    checkpoint.

    All are made when the first is requested: 2.5 GB for the largest model."""

    def __init__(self, config: HeliosConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        self._made: dict[str, Tensor] = {}

    def tensor(self, name: str) -> Tensor:
        """An added tensor in fp32. Raises KeyError for an unknown name."""
        if not self._made:
            assert self.config.memory is not None  # nothing is added otherwise
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                self._made = dict(SemanticPack(self.config, self.config.memory).state_dict())
        return self._made[name.removeprefix(PLACE)]
