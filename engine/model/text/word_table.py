"""Frozen word embeddings from a public checkpoint: MiniLM's table of tokens and its first layers.

Token ids → the embedding of each token in its prompt. The weights have a file of their own, which all models
of the built-in world share. Legend: B batch, L tokens, V vocabulary, E width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from engine.errors import ModelFilesError
from engine.model.text.encoder import TextConfig
from engine.model.text.minilm import MiniLM


class Words(nn.Module):
    embeddings: Tensor
    embeddings_scale: Tensor | None

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.minilm = MiniLM(config.minilm)
        table = torch.zeros(config.vocabulary, config.embedding, dtype=torch.float16)
        self.register_buffer("embeddings", table)
        self.register_buffer("embeddings_scale", None)
        self.eval().requires_grad_(False)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Load `embeddings` (V, E), `embeddings_scale` (V, 1) if they have 8 bits, and `minilm.*`. Layers
        beyond those in the config are ignored. Raises ModelFilesError."""
        c, table = self.config, tensors.get("embeddings")
        if table is None or table.shape != (c.vocabulary, c.embedding):
            raise ModelFilesError(
                f"the table of words should be {c.vocabulary} × {c.embedding}: "
                "`python -m export.text.minilm` writes it",
                field="embeddings",
            )
        self.embeddings, self.embeddings_scale = table, tensors.get("embeddings_scale")
        try:
            state = {k: tensors[f"minilm.{k}"].float() for k in self.minilm.state_dict()}
            self.minilm.load_state_dict(state)
        except (KeyError, RuntimeError) as e:
            raise ModelFilesError(
                f"the file of words does not hold this MiniLM ({e}): `python -m export.text.minilm` "
                "writes it",
                field="minilm",
            ) from e

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Ids and mask (B, L), 1 for real tokens → embeddings in context (B, L', E) and their mask (B, L').
        With `rows`, the rows of the table are put before them: (B, L', 2 E)."""
        ids, mask = self.minilm.marked(ids, mask)
        words = self.embeddings[ids].float()
        if self.embeddings_scale is not None:
            words = words * self.embeddings_scale[ids][..., 0, None]
        meanings = self.minilm(words, mask)
        return torch.cat([words, meanings], -1) if self.config.rows else meanings, mask
