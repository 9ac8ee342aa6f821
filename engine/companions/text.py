"""Prompt ids → the transformer's conditioning: LLaMA's states, and one CLIP vector for the whole prompt.

As in FramePack's encode_prompt_conds: LLaMA's states two layers below the top, without the template's 95 ids
and zero after the end of the prompt; CLIP-L's pooled output of the bare prompt.

Legend: B batch, L ids of both tokenizers, N = 256 text tokens, E LLaMA's width, P CLIP's width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.companions.files import fetch, require
from engine.companions.libraries import library, load_pretrained
from engine.companions.prompt import TEXT_TOKENS, Ids, Mask, PromptIds
from engine.errors import ModelFilesError

SKIPPED_LAYERS = 2  # FramePack takes hidden_states[-3]; the last entry is the top layer's, normalised


class LlamaClipText(nn.Module):
    """LLaMA without its last two layers, and CLIP-L's text encoder; frozen."""

    tokens = TEXT_TOKENS

    def __init__(self, llama: Any, clip: Any, ids: PromptIds) -> None:
        super().__init__()
        self.llama = llama
        self.clip = clip
        self.ids = ids
        self.length: int = ids.length  # L: 95 + 256 ids for LLaMA, then 77 for CLIP
        self.width: int = llama.config.hidden_size
        self.pooled_width: int = clip.config.hidden_size

    @classmethod
    def load(cls, folder: Path, *, device: torch.device | str, dtype: torch.dtype) -> LlamaClipText:
        """Load from `folder` (see files.py). FramePack uses fp16 for both encoders.

        Raises ModelFilesError for files that are missing or don't fit, Unavailable without transformers."""
        require(folder, "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
        transformers = library("transformers")
        clip = load_pretrained(
            transformers.CLIPTextModel, folder, "text_encoder_2", device=device, dtype=dtype
        )
        ids = PromptIds(folder, clip.config.max_position_embeddings)
        llama = load_pretrained(transformers.LlamaModel, folder, "text_encoder", device="cpu", dtype=dtype)
        return cls(_shortened(llama, folder).to(device), clip, ids)

    def tokenize(self, text: str) -> tuple[Ids, Mask]:
        """Ids (L,) int64 and mask (L,) float32; long prompts are cut."""
        return self.ids(text)

    @torch.no_grad()
    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """ids (B, L) int64, mask (B, L) → text (B, N, E), its mask (B, N), pooled (B, P), all fp32."""
        llama, clip = ids.split([self.ids.llama_length, self.length - self.ids.llama_length], 1)
        known = mask[:, : self.ids.llama_length]
        states = self.llama(input_ids=llama, attention_mask=known.long(), use_cache=False).last_hidden_state
        text_mask = known[:, self.ids.crop :].float()
        text = states[:, self.ids.crop :].float()
        text = torch.where(text_mask[..., None] > 0, text, torch.zeros_like(text))
        pooled: Tensor = self.clip(input_ids=clip).pooler_output  # FramePack gives CLIP no mask either
        return text, text_mask, pooled.float()


def _shortened(llama: Any, folder: Path) -> Any:
    """Remove the layers whose output is unused. That saves 0.9 GB, and the states become the plain output."""
    keep = len(llama.layers) - SKIPPED_LAYERS
    if keep < 1:
        raise ModelFilesError(
            f"{folder / 'text_encoder'} has {len(llama.layers)} layers, but at least {SKIPPED_LAYERS + 1} "
            f"are needed; fetch it again: {fetch('text_encoder', folder)}",
            field="text_encoder",
        )
    llama.layers = llama.layers[:keep]
    llama.config.num_hidden_layers = keep
    llama.norm = nn.Identity()
    return llama
