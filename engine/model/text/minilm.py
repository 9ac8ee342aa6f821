"""all-MiniLM-L6-v2 (Apache-2.0): embeds each word piece in the context of its sentence.

BERT (Devlin et al., arXiv 1810.04805) with six layers of width 384. Parameter names are those of the public
checkpoint. Pooler and dropout are left out. engine.model.text.encoder reads prompts with it. Its matrices
are kept in 8 bits with a scale per row.

Legend: B batch, L tokens, E width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.blocks import MASKED


@dataclass(frozen=True)
class MiniLMConfig:
    MOST: ClassVar = 2**16  # of any size
    length: int = 34  # a prompt and the two markers around it; the checkpoint allows 512
    dim: int = 384
    heads: int = 12
    layers: int = 4  # used of the checkpoint's six, from the first on
    hidden: int = 1536
    cls: int = 101
    sep: int = 102


SCALE = "_scale"  # after the name of what is kept in 8 bits


def eight_bits(table: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix (V, E) → int8 (V, E) and scales (V, 1). Their product is the matrix, within half a step."""
    scale = table.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
    return (table / scale).round().to(torch.int8), scale


class SelfAttention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        q, k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + bias).softmax(-1)
        out: Tensor = (weights @ v).transpose(1, 2).flatten(2)
        return out


class AddNorm(nn.Module):
    """A projection, added to the residual and normalised."""

    def __init__(self, inner: int, dim: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, dim)
        self.LayerNorm = nn.LayerNorm(dim, eps=1e-12)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        out: Tensor = self.LayerNorm(self.dense(x) + residual)
        return out


class Layer(nn.Module):
    def __init__(self, c: MiniLMConfig) -> None:
        super().__init__()
        self.attention = nn.ModuleDict(
            {"self": SelfAttention(c.dim, c.heads), "output": AddNorm(c.dim, c.dim)}
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(c.dim, c.hidden)})
        self.output = AddNorm(c.hidden, c.dim)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = self.attention["output"](self.attention["self"](x, bias), x)
        out: Tensor = self.output(F.gelu(self.intermediate["dense"](x)), x)
        return out


class Embeddings(nn.Module):
    def __init__(self, c: MiniLMConfig) -> None:
        super().__init__()
        self.position_embeddings = nn.Embedding(c.length, c.dim)
        self.token_type_embeddings = nn.Embedding(1, c.dim)
        self.LayerNorm = nn.LayerNorm(c.dim, eps=1e-12)

    def forward(self, words: Tensor) -> Tensor:
        x = words + self.position_embeddings.weight[: words.shape[1]] + self.token_type_embeddings.weight[0]
        out: Tensor = self.LayerNorm(x)
        return out


class Stack(nn.Module):
    def __init__(self, c: MiniLMConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList([Layer(c) for _ in range(c.layers)])

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        for layer in self.layer:
            x = layer(x, bias)
        return x


class MiniLM(nn.Module):
    """All but the table of words: a prompt needs only 34 of its 30522 rows."""

    def __init__(self, config: MiniLMConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = Stack(config)

    def marked(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids and mask (B, L) → (B, L + 2), between the markers [CLS] and [SEP]."""
        c = self.config
        first = torch.ones_like(mask[:, :1])
        real = torch.cat([first, mask, torch.zeros_like(first)], 1)
        longer = torch.cat([first, first, mask], 1)
        inner = F.pad(ids, (1, 1))
        inner = torch.where(real > 0, inner, torch.full_like(inner, c.sep))
        start = torch.full_like(inner[:, :1], c.cls)
        return torch.cat([start, inner[:, 1:]], 1), longer

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        """Word embeddings (B, L, E), mask (B, L) 1 for real tokens → embeddings in context (B, L, E)."""
        out: Tensor = self.encoder(self.embeddings(words), (mask[:, None, None] - 1) * -MASKED)
        return out
