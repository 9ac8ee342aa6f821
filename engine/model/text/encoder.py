"""Prompts → what they say: a probability per class of every attribute, class 0 meaning "unsaid".

MiniLM, frozen, says what every word piece means where it stands; each then votes for what it stands for, and
an attribute that nobody votes for is unsaid. So word order, length and chatter matter little. A token's row
of the table votes along where `rows` is set: a dictionary has taught that table, and what a rare word means
should not be lost on the way. The DiT sees the probabilities through its own tables, so a prompt's weight can
be interpolated. The paper uses LLaMA and CLIP here; those come with the full size.

Legend: B batch, L token ids, E width of the embeddings, K classes of all attributes together.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.blocks import MASKED
from engine.model.text.minilm import MiniLMConfig


@dataclass(frozen=True)
class TextConfig:
    vocabulary: int = 30522
    embedding: int = 384
    length: int = 32
    slots: tuple[int, ...] = (9, 5, 5, 7, 9, 5)
    hidden: int = 0  # width of a layer before the votes; 0: none
    rows: bool = False  # votes also see what the table says of a token by itself
    minilm: MiniLMConfig = field(default_factory=MiniLMConfig)


class TextEncoder(nn.Module):
    """The trained half: every token votes for classes, votes for one class add up as probabilities do."""

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
        nn.init.constant_(self.vote.bias, -4.0)  # at first nothing is said
        self.unsaid = nn.Parameter(torch.zeros(len(config.slots)))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    def votes(self, meanings: Tensor) -> Tensor:
        """What is known of each token (..., E) → its votes for every class but the unsaid, (..., K - 6)."""
        x = (meanings - self.mean) / self.std
        if self.inner is not None:
            x = F.gelu(self.inner(x))
        out: Tensor = self.vote(x)
        return out

    def count(self, said: Tensor) -> Tensor:
        """Votes added up, (B, K - 6) → logits with the unsaid among them, (B, K)."""
        parts = said.split([n - 1 for n in self.config.slots], -1)
        unsaid = self.unsaid.expand(said.shape[0], -1).split(1, -1)
        return torch.cat([part for pair in zip(unsaid, parts, strict=True) for part in pair], -1)

    def forward(self, meanings: Tensor, mask: Tensor) -> Tensor:
        """What is known of each token (B, L, E), mask (B, L), 1 for real → logits (B, K)."""
        return self.count((self.votes(meanings) + (mask[:, :, None] - 1) * -MASKED).logsumexp(1))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax per attribute, (B, K) → the same shape."""
        return torch.cat([part.softmax(-1) for part in logits.split(list(self.config.slots), -1)], -1)
