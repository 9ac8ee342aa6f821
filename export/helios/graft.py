"""SemanticPack on a Helios that has none: gates at 0, so the whole computes what the checkpoint did.

Memorize looks through a copy of `patch_short`; the rest is random, the same for the same seed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.model.helios.config import HeliosConfig
from engine.model.helios.memory import SemanticPack

PLACE = "semantic_pack."
COPIES = {f"{PLACE}memorize.embed.{leaf}": f"patch_short.{leaf}" for leaf in ("weight", "bias")}


class Graft:
    """The tensors that a Helios with memory has and the checkpoint lacks, by name; COPIES come from there.

    All are made with the first: 2.5 GB for the largest model."""

    def __init__(self, config: HeliosConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        self._made: dict[str, Tensor] = {}

    def tensor(self, name: str) -> Tensor:
        """fp32. Raises KeyError for an unknown name."""
        if not self._made:
            assert self.config.memory is not None  # nothing is added otherwise
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                self._made = dict(SemanticPack(self.config, self.config.memory).state_dict())
        return self._made[name.removeprefix(PLACE)]
