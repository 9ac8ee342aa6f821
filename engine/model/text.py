"""Prompts → what they say: a probability per class of every attribute, class 0 meaning "unsaid".

MiniLM, frozen, says what every word piece means where it stands; each then votes for what it stands for, and
an attribute that nobody votes for is unsaid. So word order, length and chatter matter little. The DiT sees
the
probabilities through its own tables, so a prompt's weight can be interpolated. The paper uses LLaMA and CLIP
here; those come with the full size.

Legend: B batch, L token ids, E width of the embeddings, D width here, N attributes, K classes of all
together.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.model.blocks import MASKED, Attention, FeedForward
from engine.model.minilm import MiniLMConfig


@dataclass(frozen=True)
class TextConfig:
    vocabulary: int = 30522
    embedding: int = 384
    length: int = 32
    dim: int = 128
    heads: int = 4
    layers: int = 2
    slots: tuple[int, ...] = (9, 5, 5, 7, 9, 5)
    minilm: MiniLMConfig | None = None  # None: embeddings of words alone, read by StaticTextEncoder


class Reader(nn.Module):
    """What both encoders answer with."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax per attribute, (B, K) → the same shape."""
        return torch.cat([part.softmax(-1) for part in logits.split(list(self.config.slots), -1)], -1)


class TextEncoder(Reader):
    """The trained half: every token votes for classes, votes for one class add up as probabilities do."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: TextConfig) -> None:
        super().__init__(config)
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


class MaskedLayer(nn.Module):
    """Attention of queries to the prompt's real tokens, then a feed-forward; both with residuals."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm, self.norm_source, self.norm_ff = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = Attention(dim, heads)
        self.ff = FeedForward(dim, 2)

    def forward(self, x: Tensor, source: Tensor, bias: Tensor) -> Tensor:
        """(B, Q, D) attends to (B, L, D); bias (B, 1, 1, L) is 0 for real tokens, very negative for
        padding."""
        a, source = self.attn, self.norm_source(source)
        q = a.norm_q(a.split(a.to_q(self.norm(x))))
        k, v = a.norm_k(a.split(a.to_k(source))), a.split(a.to_v(source))
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + bias).softmax(-1)
        x = x + a.to_out[0]((weights @ v).transpose(1, 2).flatten(2))
        out: Tensor = x + self.ff(self.norm_ff(x))
        return out


class StaticTextEncoder(Reader):
    """Reads embeddings of words that know no context: two small attention layers, a query per attribute."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__(config)
        c = config
        self.proj_in = nn.Linear(c.embedding, c.dim)
        self.position = nn.Parameter(0.02 * torch.randn(1, c.length, c.dim))
        self.layers = nn.ModuleList([MaskedLayer(c.dim, c.heads) for _ in range(c.layers)])
        self.queries = nn.Parameter(0.5 * torch.randn(1, len(c.slots), c.dim))
        self.read = MaskedLayer(c.dim, c.heads)
        self.heads = nn.ModuleList([nn.Linear(c.dim, n) for n in c.slots])

    def forward(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """Embedded tokens (B, L, E) and mask (B, L), 1 for real → logits (B, sum of classes)."""
        bias = (mask[:, None, None] - 1) * 1e4
        x = self.proj_in(embedded) + self.position
        for layer in self.layers:
            x = layer(x, x, bias)
        q = self.read(self.queries.expand(x.shape[0], -1, -1), x, bias)
        return torch.cat([head(q[:, i]) for i, head in enumerate(self.heads)], -1)


def text_encoder(config: TextConfig) -> TextEncoder | StaticTextEncoder:
    return StaticTextEncoder(config) if config.minilm is None else TextEncoder(config)
