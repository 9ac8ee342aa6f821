"""Prompts → token ids, the same for every backend, by the tokenizer file beside the embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from engine.errors import ModelFilesError
from engine.types import FloatArray, IntArray


class PromptTokenizer:
    def __init__(self, path: Path, length: int) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as e:  # the library raises bare Exception
            raise ModelFilesError(f"{path} is not a tokenizer file: {e}", field=path.name) from e
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.length = length

    def __call__(self, text: str) -> tuple[IntArray, FloatArray]:
        """Lower-cased word pieces without special tokens: ids (L,), mask (L,). Long prompts are truncated."""
        found = self._tokenizer.encode(text, add_special_tokens=False).ids[: self.length]
        ids, mask = np.zeros(self.length, np.int64), np.zeros(self.length, np.float32)
        ids[: len(found)], mask[: len(found)] = found, 1
        return ids, mask
