"""Prompts → what they say: a probability per class of every attribute, class 0 meaning "unsaid".

MiniLM, frozen, says what every word piece means where it stands; each then votes for what it stands for, and
an attribute that nobody votes for is unsaid. So word order, length and chatter matter little. The DiT sees
the probabilities through its own tables, so a prompt's weight can be interpolated. The paper uses LLaMA and
CLIP here; those come with the full size.

Legend: B batch, L token ids, E width of the embeddings, K classes of all attributes together.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from engine.model.blocks import MASKED
from engine.model.minilm import MiniLMConfig


@dataclass(frozen=True)
class TextConfig:
    vocabulary: int = 30522
    embedding: int = 384
    length: int = 32
    slots: tuple[int, ...] = (9, 5, 5, 7, 9, 5)
    minilm: MiniLMConfig = field(default_factory=MiniLMConfig)


class TextEncoder(nn.Module):
    """The trained half: every token votes for classes, votes for one class add up as probabilities do."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        classes = sum(config.slots) - len(config.slots)
        self.vote = nn.Linear(config.embedding, classes)
        nn.init.zeros_(self.vote.weight)
        nn.init.constant_(self.vote.bias, -4.0)  # at first nothing is said
        self.unsaid = nn.Parameter(torch.zeros(len(config.slots)))
        self.register_buffer("mean", torch.zeros(config.embedding))
        self.register_buffer("std", torch.ones(config.embedding))

    def forward(self, meanings: Tensor, mask: Tensor) -> Tensor:
        """What MiniLM says of each token (B, L, E), mask (B, L), 1 for real → logits (B, K)."""
        votes = self.vote((meanings - self.mean) / self.std) + (mask[:, :, None] - 1) * -MASKED
        said = votes.logsumexp(1).split([n - 1 for n in self.config.slots], -1)
        unsaid = self.unsaid.expand(mask.shape[0], -1).split(1, -1)
        return torch.cat([part for pair in zip(unsaid, said, strict=True) for part in pair], -1)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax per attribute, (B, K) → the same shape."""
        return torch.cat([part.softmax(-1) for part in logits.split(list(self.config.slots), -1)], -1)
