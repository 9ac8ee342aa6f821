"""Prompt → Helios' conditioning: 512 states of UMT5-XXL, zero after the end of the prompt.

As in `HeliosPyramidPipeline` of diffusers 0.42: broken characters are repaired and white space is collapsed.
The encoder gets a mask; the transformer gets none, since it was trained with the padding.

Legend: B batch, L = 512 ids and tokens, E UMT5's width.
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from engine.companions.helios.files import CATALOGUE
from engine.companions.libraries import first_line, library, load_pretrained
from engine.errors import ModelFilesError
from engine.types import FloatArray, IntArray

TOKENS = 512
MOST_IDS = 256384  # of the public UMT5
PAD, END = "<pad>", "</s>"


class Umt5Ids:
    """A prompt → ids and mask. Needs the tokenizer's file only."""

    def __init__(self, folder: Path, vocabulary: int = MOST_IDS) -> None:
        """`vocabulary`: the encoder's. Raises ModelFilesError, and Unavailable without ftfy."""
        CATALOGUE.require(folder, "tokenizer")
        self._tokenizer, self._ftfy = _tokenizer(folder, vocabulary), library("ftfy")

    def __call__(self, text: str) -> tuple[IntArray, FloatArray]:
        """Ids (L,) int64 and mask (L,) float32; long prompts are cut."""
        encoded = self._tokenizer.encode(self.cleaned(text))
        return np.array(encoded.ids, np.int64), np.array(encoded.attention_mask, np.float32)

    def cleaned(self, text: str) -> str:
        """Repair broken characters, resolve HTML entities twice, collapse white space."""
        repaired = html.unescape(html.unescape(self._ftfy.fix_text(text)))
        return re.sub(r"\s+", " ", repaired).strip()


class TextCompanion(nn.Module):
    """UMT5's encoder, frozen."""

    length = tokens = TOKENS

    def __init__(self, umt5: Any, tokenize: Umt5Ids) -> None:
        super().__init__()
        self.umt5 = umt5
        self.tokenize = tokenize
        self.width: int = umt5.config.d_model

    @classmethod
    def load(cls, folder: Path, *, device: torch.device | str, dtype: torch.dtype) -> TextCompanion:
        """Load from `folder` (see files.py). The public code uses fp32 or bf16.

        Raises ModelFilesError for files that are missing or don't fit, Unavailable without transformers."""
        CATALOGUE.require(folder, "text_encoder", "tokenizer")
        encoder = library("transformers").UMT5EncoderModel
        umt5 = load_pretrained(
            encoder, folder, "text_encoder", device=device, dtype=dtype, catalogue=CATALOGUE
        )
        return cls(umt5, Umt5Ids(folder, umt5.config.vocab_size))

    @torch.no_grad()
    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids (B, L) int64, mask (B, L) → text (B, L, E) fp32."""
        text = self.umt5(input_ids=ids, attention_mask=mask.long()).last_hidden_state.float()
        return torch.where(mask[..., None] > 0, text, torch.zeros_like(text))


def _tokenizer(folder: Path, vocabulary: int) -> Tokenizer:
    """The tokenizer, set to pad and cut to L ids. Raises ModelFilesError if it is unreadable or another
    model's."""
    path = folder / "tokenizer" / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as e:  # the tokenizers library raises plain Exception for a file that it cannot parse
        raise _refused(folder, first_line(e)) from e
    pad, end = (tokenizer.token_to_id(token) for token in (PAD, END))
    if pad is None or end is None or tokenizer.encode("a").ids[-1] != end:
        raise _refused(folder, f"a prompt must end with {END} and be padded with {PAD}")
    if tokenizer.get_vocab_size() > vocabulary:
        raise _refused(folder, f"it has {tokenizer.get_vocab_size()} ids, but the encoder has {vocabulary}")
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(pad_id=pad, pad_token=PAD, length=TOKENS)
    return tokenizer


def _refused(folder: Path, why: str) -> ModelFilesError:
    return ModelFilesError(
        f"{folder / 'tokenizer'} is not UMT5's tokenizer ({why}); "
        f"fetch it again: {CATALOGUE.fetch('tokenizer', folder)}",
        field="tokenizer",
    )
