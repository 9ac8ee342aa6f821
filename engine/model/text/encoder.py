"""Reads prompts: a probability for every class of every attribute, where class 0 means "unsaid".

A frozen MiniLM embeds every word piece in its context. Each piece then votes for classes, and an attribute
without votes is unsaid. Word order, length and filler words therefore matter little. With `rows`, the votes
also see the token's row in the table of words: a dictionary has taught that table, and the meaning of a rare
word should not get lost in MiniLM. The DiT sees the probabilities through its own tables, so prompts can be
interpolated. The paper uses LLaMA and CLIP instead; the full-size models do too.

Legend: B batch, L token ids, E width of the embeddings, K classes of all attributes together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.blocks import MASKED
from engine.model.text.minilm import MiniLMConfig

ATTRIBUTES = (
    "place meadow forest desert snowfield beach city volcano moon",
    "time dawn noon dusk night",
    "weather clear rain snow fog",
    "hero ball cube fox robot bird balloon",
    "colour red orange yellow green blue purple white black",
)
"""What the slots mean that a scene always has some value of: each a name and its values."""


@dataclass(frozen=True)
class TextConfig:
    MOST: ClassVar = 2**20  # of any size
    vocabulary: int = 30522
    embedding: int = 384
    groups: int = 72  # pieces of a row in the table of words
    length: int = 32
    slots: tuple[int, ...] = (9, 5, 5, 7, 9, 5)
    hidden: int = 0  # width of a layer before the votes; 0: none
    rows: bool = False  # votes also see a token's own row of the table
    attributes: tuple[str, ...] = ATTRIBUTES  # of the first slots; none: nothing is filled in for a prompt
    minilm: MiniLMConfig = field(default_factory=MiniLMConfig)


def filled(probabilities: Tensor, fill: Tensor, slots: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Probabilities (B, K) with a value for what is unsaid, and which class each of the first A slots said
    before, (B, A), 0 for none. fill (B, A) classes; 0 leaves it unsaid."""
    parts, said = list(probabilities.split(list(slots), -1)), []
    for i in range(fill.shape[1]):
        best, wanted = parts[i].argmax(-1), fill[:, i]
        one = torch.arange(slots[i], device=fill.device) == wanted[:, None]
        given = ((best == 0) & (wanted > 0))[:, None]
        parts[i] = torch.where(given, one.to(parts[i].dtype), parts[i])
        said.append(best)
    return torch.cat(parts, -1), torch.stack(said, 1)


class TextEncoder(nn.Module):
    """The trained part. Every token votes for classes, and the votes for a class are added by logsumexp."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        classes = sum(config.slots) - len(config.slots)
        width = config.embedding * (2 if config.rows else 1)
        self.inner = nn.Linear(width, config.hidden) if config.hidden else None
        self.vote = nn.Linear(config.hidden or width, classes)
        nn.init.zeros_(self.vote.weight)
        nn.init.constant_(self.vote.bias, -4.0)  # at first every attribute is unsaid
        self.unsaid = nn.Parameter(torch.zeros(len(config.slots)))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    def votes(self, meanings: Tensor) -> Tensor:
        """Token embeddings (..., E) → votes for every class but the unsaid ones, (..., K - 6)."""
        x = (meanings - self.mean) / self.std
        if self.inner is not None:
            x = F.gelu(self.inner(x))
        out: Tensor = self.vote(x)
        return out

    def count(self, said: Tensor) -> Tensor:
        """Summed votes (B, K - 6) → logits that include the unsaid classes, (B, K)."""
        parts = said.split([n - 1 for n in self.config.slots], -1)
        unsaid = self.unsaid.expand(said.shape[0], -1).split(1, -1)
        return torch.cat([part for pair in zip(unsaid, parts, strict=True) for part in pair], -1)

    def forward(self, meanings: Tensor, mask: Tensor) -> Tensor:
        """Token embeddings (B, L, E), mask (B, L) 1 for real tokens → logits (B, K)."""
        return self.count((self.votes(meanings) + (mask[:, :, None] - 1) * -MASKED).logsumexp(1))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax per attribute, (B, K) → the same shape."""
        return torch.cat([part.softmax(-1) for part in logits.split(list(self.config.slots), -1)], -1)
