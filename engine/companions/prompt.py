"""Prompt → the ids of both text encoders, exactly as FramePack prepares them.

LLaMA reads the prompt inside HunyuanVideo's template, padded to 95 + 256 ids; CLIP reads the bare prompt,
padded to 77. Both are concatenated, since the step contract has one input for ids.

LLaMA's tokenizer is read by the tokenizers library itself: transformers 5 replaces the byte-level splitting
of a `LlamaTokenizerFast` by LLaMA 2's (huggingface/transformers#45488), which would lose every space.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from engine.companions.files import fetch, require
from engine.companions.libraries import first_line, library
from engine.errors import ModelFilesError

TEXT_TOKENS = 256  # FramePack, encode_prompt_conds: max_length

Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.float32]


class PromptIds:
    """Tokenises a prompt for both encoders. The first `crop` ids belong to the template."""

    def __init__(self, folder: Path, clip_length: int) -> None:
        """Raises ModelFilesError for a tokenizer that is missing, unreadable, or not HunyuanVideo's."""
        require(folder, "tokenizer", "tokenizer_2")
        pipeline = library("diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video")
        self._template: str = pipeline.DEFAULT_PROMPT_TEMPLATE["template"]
        self.crop: int = pipeline.DEFAULT_PROMPT_TEMPLATE["crop_start"]
        self.llama_length = self.crop + TEXT_TOKENS
        self.length: int = self.llama_length + clip_length
        self._clip_length = clip_length
        self._llama, self._first, self._pad = _llama_tokenizer(folder)
        try:
            self._clip: Any = library("transformers").CLIPTokenizer.from_pretrained(
                str(folder / "tokenizer_2"), local_files_only=True
            )
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise _unreadable(folder, "tokenizer_2", e) from e
        before = len(self._llama_ids("")) - 1  # one id ends the prompt
        if before != self.crop:
            raise ModelFilesError(
                f"{folder / 'tokenizer'} splits the template into {before} ids instead of {self.crop}: "
                f"not HunyuanVideo's tokenizer; fetch it again: {fetch('tokenizer', folder)}",
                field="tokenizer",
            )

    def __call__(self, text: str) -> tuple[Ids, Mask]:
        """Ids (length,) and a mask (length,) that is 1 where an id is not padding. Long prompts are cut."""
        llama = self._llama_ids(text)[: self.llama_length]
        clip = self._clip(text, truncation=True, max_length=self._clip_length, padding="max_length")
        padding = self.llama_length - len(llama)
        ids = np.array([*llama, *[self._pad] * padding, *clip["input_ids"]], np.int64)
        mask = np.array([*[1] * len(llama), *[0] * padding, *clip["attention_mask"]], np.float32)
        return ids, mask

    def _llama_ids(self, text: str) -> list[int]:
        ids = self._llama.encode(self._template.format(text), add_special_tokens=False).ids
        return [self._first, *ids]


def _llama_tokenizer(folder: Path) -> tuple[Tokenizer, int, int]:
    """The tokenizer, the id that starts a text, and the id for padding."""
    path = folder / "tokenizer"
    try:
        tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        about = json.loads((path / "tokenizer_config.json").read_text(encoding="utf-8-sig"))
        first, pad = (_id(tokenizer, about, key) for key in ("bos_token", "pad_token"))
    except ModelFilesError:
        raise
    except Exception as e:  # the tokenizers library raises plain Exception for a file that it cannot parse
        raise _unreadable(folder, "tokenizer", e) from e
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer, first, pad


def _id(tokenizer: Tokenizer, about: dict[str, Any], key: str) -> int:
    token = about.get(key)
    text = token.get("content") if isinstance(token, dict) else token
    number = tokenizer.token_to_id(text) if isinstance(text, str) else None
    if number is None:
        raise ValueError(f"{key} {text!r} is not in its vocabulary")
    return number


def _unreadable(folder: Path, part: str, error: BaseException) -> ModelFilesError:
    return ModelFilesError(
        f"{folder / part} cannot be read ({first_line(error)}); fetch it again: {fetch(part, folder)}",
        field=part,
    )
