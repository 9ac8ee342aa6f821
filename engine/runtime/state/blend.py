"""What prompts say, as arrays, and mixtures of them: weighted prompts, the way from one to another.

The built-in world's tokens are linear in the probabilities of its classes (engine.model.text.encoder), so a
mixture of tokens is that of the probabilities. A full-size model's are LLaMA's hidden states, as many as the
prompt has words: where several prompts have a token they are mixed, where only one has, it is that one's; how
many count is as the heaviest prompt has it. So both ends of a change are exactly the prompts themselves.
docs/architecture.md has the reasons. It knows no backend and no text.

Legend: N text tokens, E their width, P width of the pooled prompt, A actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from engine.model.signature import ModelSpec
from engine.types import FloatArray


class Said(NamedTuple):
    """What `encode_text` says of a prompt."""

    text: FloatArray  # (N, E)
    pooled: FloatArray  # (P,)
    motion: FloatArray  # (A + 1,)
    mask: FloatArray  # (N,) which tokens count; empty where none is padded


def size(spec: ModelSpec) -> int:
    """How many numbers a Said has."""
    mask = spec.text_tokens if spec.masked else 0
    text = spec.text_tokens * (spec.text_dim or spec.model_dim)
    return text + (spec.pooled_dim or spec.model_dim) + len(spec.actions) + 1 + mask


def flat(said: Said) -> FloatArray:
    return np.concatenate([part.ravel() for part in said])


def unflat(numbers: FloatArray, like: Said) -> Said:
    ends = np.cumsum([part.size for part in like])[:-1]
    parts = np.split(numbers, ends)
    return Said(*(part.reshape(shape.shape) for part, shape in zip(parts, like, strict=True)))


def blend(parts: Sequence[Said], weights: Sequence[float]) -> Said:
    """All of them, each by its weight; only ratios matter. Of equal weights the last one's length counts."""
    if len(parts) == 1:
        return parts[0]
    shares = np.array(weights, np.float64) / np.sum(weights)
    pooled = _mixed(shares, [p.pooled for p in parts])
    motion = _mixed(shares, [p.motion for p in parts])
    mask = max(zip(shares, range(len(parts)), parts, strict=True), key=lambda part: part[:2])[2].mask
    if not mask.size:
        return Said(_mixed(shares, [p.text for p in parts]), pooled, motion, mask)
    counts = shares[:, None] * np.stack([p.mask for p in parts])  # (prompts, N)
    counts /= np.maximum(counts.sum(0), 1e-12)
    text = (counts[:, :, None] * np.stack([p.text for p in parts])).sum(0)
    return Said(text.astype(np.float32), pooled, motion, mask)


def _mixed(shares: FloatArray, arrays: Sequence[FloatArray]) -> FloatArray:
    return np.tensordot(shares, np.stack(arrays), 1).astype(np.float32)
