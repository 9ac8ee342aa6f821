"""Grafts SemanticPack onto a backbone without it. The new model initially computes what the backbone did.

Most additions to the DiT (engine.model.dit.EXTRA) start at zero: the embeddings of kind, scene, jump and
noise level. ψ cannot, since even zero tokens take a share of every softmax. So its keys get a bias, learned
per block, that starts at `memory.key_bias`; docs/LOG.md has the measurements behind the default. Memorize
starts with a copy of the backbone's 1x kernel; the rest of SemanticPack is random, from a seed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from engine.model.config import ModelConfig
from engine.model.embed import ScalarEmbed
from engine.model.memory import Memorize, Squeeze

EMBED = "clean_x_embedder.proj"  # the backbone's 1x kernel for clean latents
COPIES = {f"memorize.embed.{leaf}": f"{EMBED}.{leaf}" for leaf in ("weight", "bias")}


class FramePackGraft:
    """The tensors of the DiT of `config` that a public checkpoint lacks, except COPIES, which come from the
    checkpoint. Holds one part at a time; the largest is Memorize with 0.8 GB in the largest model."""

    def __init__(self, config: ModelConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        self._made: tuple[str, dict[str, Tensor]] = ("", {})

    def tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """An added tensor in fp32. Raises KeyError for an unknown name."""
        part, _, inner = name.partition(".")
        if part == "psi_bias":
            return torch.full(shape, self.config.memory.key_bias or 0.0)
        if part in ("kind", "scene_embedder", "action_embedder"):
            return torch.zeros(shape)
        if self._made[0] != part:
            self._made = ("", {})  # frees the previous part
            self._made = (part, self._make(part))
        return self._made[1][inner]

    def _make(self, part: str) -> dict[str, Tensor]:
        c = self.config
        makers: dict[str, Callable[[], nn.Module]] = {
            "memorize": lambda: Memorize(c),
            "squeeze": lambda: Squeeze(c),
            "jump_embedder": lambda: ScalarEmbed(c.dim, silent=True),
            "noise_embedder": lambda: ScalarEmbed(c.dim, silent=True),
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + list(makers).index(part))
            return dict(makers[part]().state_dict())
