"""Frozen word embeddings from a public checkpoint: MiniLM's table of tokens and its first layers.

Token ids → the embedding of each token in its prompt. The weights have a file of their own, which all models
of the built-in world share. A row of the table is G pieces, each one of 256 that all rows share, in the
table's principal components: product quantisation (Jégou et al., 2011), a byte per piece. The layers are kept
in 8 bits.

Legend: B batch, L tokens, V vocabulary, E width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from engine.errors import ModelFilesError
from engine.model.text.encoder import TextConfig
from engine.model.text.minilm import SCALE, MiniLM

PIECES = 256  # that one byte can tell apart
TABLE = ("codes", "pieces", "group", "turn", "centre")


class Words(nn.Module):
    codes: Tensor  # (V, G) which piece, from -128
    pieces: Tensor  # (256, E) of all groups side by side
    group: Tensor  # (E,) which group a column is of
    turn: Tensor  # (E, E) columns → a row
    centre: Tensor  # (E,)

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.minilm = MiniLM(config.minilm)
        v, e, half = config.vocabulary, config.embedding, torch.float16
        self.register_buffer("codes", torch.zeros(v, config.groups, dtype=torch.int8))
        self.register_buffer("pieces", torch.zeros(PIECES, e, dtype=half))
        self.register_buffer("group", torch.zeros(e, dtype=torch.int8))
        self.register_buffer("turn", torch.zeros(e, e, dtype=half))
        self.register_buffer("centre", torch.zeros(e, dtype=half))
        self.eval().requires_grad_(False)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Load the table's buffers and `minilm.*`, with a `…_scale` for each matrix of 8 bits. Layers beyond
        those in the config are ignored. Raises ModelFilesError."""
        for name in TABLE:
            table, wanted = tensors.get(name), getattr(self, name)
            if table is None or table.shape != wanted.shape or table.dtype != wanted.dtype:
                raise ModelFilesError(
                    f"{name} of the table of words should be {' × '.join(map(str, wanted.shape))}: "
                    "`python -m export.text.minilm` writes it",
                    field=name,
                )
            setattr(self, name, table)
        try:
            state = {k: _whole(tensors, f"minilm.{k}") for k in self.minilm.state_dict()}
            self.minilm.load_state_dict(state)
        except (KeyError, RuntimeError) as e:
            brief = " ".join(str(e).split())[:200]
            raise ModelFilesError(
                f"the file of words does not hold this MiniLM ({brief}): `python -m export.text.minilm` "
                "writes it",
                field="minilm",
            ) from e

    def rows(self, ids: Tensor) -> Tensor:
        """Ids (B, L) → the table's rows (B, L, E)."""
        width = self.config.embedding
        piece = self.codes[ids].long()[..., self.group.long()] + PIECES // 2
        columns = self.pieces.flatten()[piece * width + torch.arange(width, device=ids.device)]
        return columns.float() @ self.turn.float() + self.centre.float()

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Ids and mask (B, L), 1 for real tokens → embeddings in context (B, L', E) and their mask (B, L').
        With `rows`, the rows of the table are put before them: (B, L', 2 E)."""
        ids, mask = self.minilm.marked(ids, mask)
        words = self.rows(ids)
        meanings = self.minilm(words, mask)
        return torch.cat([words, meanings], -1) if self.config.rows else meanings, mask


def _whole(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    """A stored tensor in fp32. Raises KeyError."""
    tensor, scale = tensors[name].float(), tensors.get(f"{name}{SCALE}")
    return tensor if scale is None else tensor * scale
