"""The DiT of the public FramePack checkpoints, with SemanticPack added.

Prompts are LLaMA's tokens, refined at the current time step; reference images are SigLIP's features. The
checkpoints count time from data to noise and answer ε − x (engine.model.flow translates).

Legend: B batch, W latent frames of the segment, C channels, h w latent size, N text tokens, E their width, I
image tokens, M memory tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.model import flow
from engine.model.conditions import Conditions
from engine.model.config import ModelConfig
from engine.model.dit import MemoryPackDiT
from engine.model.framepack.embed import ImageProjection, TokenRefiner


class FramePackDiT(MemoryPackDiT):
    def __init__(self, config: ModelConfig) -> None:
        assert config.hunyuan is not None
        super().__init__(config, guidance=config.hunyuan.guidance)

    def add_embedders(self) -> None:
        c, h = self.config, self.config.hunyuan
        assert h is not None
        self.context_embedder = TokenRefiner(c.dim, c.heads, c.mlp_ratio, h)
        self.image_projection = ImageProjection(h.image_dim, c.dim)

    def forward(self, x: Tensor, t: Tensor, d: Tensor, given: Conditions) -> Tensor:
        """The role `denoise` of the step contract: x (B, W, C, h, w), t and d (B,) → velocity like x."""
        time = flow.checkpoint_time(t)
        text = self.context_embedder(given.text, given.text_mask, time)
        tokens = self.transform(x, time=time, jump=d, text=text, given=given)
        return flow.checkpoint_velocity(self.latents(tokens, self.proj_out))

    def initial_memory(self, text: Tensor, image: Tensor, text_mask: Tensor) -> Tensor:
        """ψ₀ (B, M, D) of the prompt (B, N, E), as the transformer reads it at t = 1, and of image tokens
        (B, I, D). text_mask (B, N) is 1 for real tokens."""
        clean = torch.zeros_like(text_mask[:, 0])  # t = 1 as the checkpoint counts
        return self.first_memory(self.context_embedder(text, text_mask, clean), image)
