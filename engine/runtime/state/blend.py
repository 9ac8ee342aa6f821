"""The conditioning of a prompt as arrays, and mixtures of several: weighted prompts, and `soft` changes.

The built-in world's tokens are linear in the probabilities of its classes (engine.model.text.encoder), so a
mixture of tokens is the tokens of the mixed probabilities. A full-size model's tokens are LLaMA's hidden
states, one per word piece. A position that several prompts fill is mixed; one that a single prompt fills is
taken from it unmixed; the heaviest prompt decides how many count. So both ends of a change are exactly the
prompts themselves. docs/architecture.md has the reasons. Backends and text are unknown here.

Legend: N text tokens, E their width, P width of the pooled prompt, A actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from engine.model.signature import ModelSpec
from engine.types import FloatArray


class Conditioning(NamedTuple):
    """The outputs of `encode_text` for one prompt."""

    text: FloatArray  # (N, E)
    pooled: FloatArray  # (P,)
    motion: FloatArray  # (A + 1,)
    mask: FloatArray  # (N,) which tokens count; empty where none is padded


def size(spec: ModelSpec) -> int:
    """Number of values in a Conditioning."""
    mask = spec.text_tokens if spec.masked else 0
    text = spec.text_tokens * (spec.text_dim or spec.model_dim)
    return text + (spec.pooled_dim or spec.model_dim) + len(spec.actions) + 1 + mask


def flat(conditioning: Conditioning) -> FloatArray:
    return np.concatenate([part.ravel() for part in conditioning])


def unflat(numbers: FloatArray, like: Conditioning) -> Conditioning:
    ends = np.cumsum([part.size for part in like])[:-1]
    parts = np.split(numbers, ends)
    return Conditioning(*(part.reshape(shape.shape) for part, shape in zip(parts, like, strict=True)))


def blend(parts: Sequence[Conditioning], weights: Sequence[float]) -> Conditioning:
    """The weighted mixture; only ratios of weights matter. Among equal weights the last prompt's length
    counts."""
    if len(parts) == 1:
        return parts[0]
    shares = np.array(weights, np.float64) / np.sum(weights)
    pooled = _mixed(shares, [p.pooled for p in parts])
    motion = _mixed(shares, [p.motion for p in parts])
    mask = max(zip(shares, range(len(parts)), parts, strict=True), key=lambda part: part[:2])[2].mask
    if not mask.size:
        return Conditioning(_mixed(shares, [p.text for p in parts]), pooled, motion, mask)
    counts = shares[:, None] * np.stack([p.mask for p in parts])  # (prompts, N)
    counts /= np.maximum(counts.sum(0), 1e-12)
    text = (counts[:, :, None] * np.stack([p.text for p in parts])).sum(0)
    return Conditioning(text.astype(np.float32), pooled, motion, mask)


def _mixed(shares: FloatArray, arrays: Sequence[FloatArray]) -> FloatArray:
    return np.tensordot(shares, np.stack(arrays), 1).astype(np.float32)
