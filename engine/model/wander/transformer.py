"""The built-in model's DiT: prompts as attribute slots, hints from the camera, and preconditioning.

Legend: B batch, W latent frames of the segment, C channels, h w latent size, N text tokens, I image tokens, M
memory tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.model import flow
from engine.model.conditions import Conditions
from engine.model.dit import MemoryPackDiT
from engine.model.wander.embed import ImageTokens, SceneryCode, TextSlots
from engine.model.wander.precondition import Precondition


class WanderDiT(MemoryPackDiT):
    def add_embedders(self) -> None:
        self.text_slots = TextSlots(self.config)
        self.image_tokens = ImageTokens(self.config)

    def add_outputs(self) -> None:
        c = self.config
        if c.camera is not None and c.camera.loop:
            self.scenery_code = SceneryCode(c, c.camera)
        self.precondition = Precondition(c.prior_variance)
        if c.carry:
            assert c.camera is not None  # ModelConfig
            self.carry = nn.Linear(c.dim, 4 * c.camera.candidates)
            nn.init.zeros_(self.carry.weight)
            nn.init.zeros_(self.carry.bias)

    def forward(self, x: Tensor, t: Tensor, d: Tensor, given: Conditions) -> Tensor:
        """The role `denoise` of the step contract: x (B, W, C, h, w), t and d (B,) → velocity like x."""
        net = self.network(x, t, d, given)
        return self.precondition.velocity(x, t, net, self.base(given), given.context)

    def network(self, x: Tensor, t: Tensor, d: Tensor, given: Conditions) -> Tensor:
        """The transformer's answer, (B, W, C, h, w). Without preconditioning it is the velocity."""
        c = self.config
        hints = self._hints(x, given)
        tokens = self.transform(torch.cat([x, hints], 2), time=t, jump=d, text=given.text, given=given)
        answer = self.latents(tokens, self.proj_out)
        if c.carry and c.camera is not None:
            share = self.latents(tokens, self.carry)
            candidates = hints[:, :, : c.camera.candidates * c.channels].unflatten(2, (-1, c.channels))
            base = self.base(given)
            answer = answer + self.precondition.carried(x, t, base, candidates, share, given.context)
        return answer

    def noisy_tokens(self, x: Tensor, given: Conditions) -> Tensor:
        """With the code of the scenery that each token stands before."""
        tokens = super().noisy_tokens(x, given)
        if given.scenery is None:
            return tokens
        behind: Tensor = self.scenery_code(given.scenery, given.pooled)
        return tokens + behind.flatten(1, 3)

    def base(self, given: Conditions) -> Tensor:
        """The clean latent next to the segment (B, 1, C, h, w), or zero at the start of a scene."""
        nearest = given.history[:, -1:] if self.config.packing.order == "f1" else given.history[:, :1]
        return nearest * flow.wide(given.context, nearest)

    def initial_memory(self, text: Tensor, image: Tensor) -> Tensor:
        """ψ₀ (B, M, D) of the prompt's tokens (B, N, D) and the anchor's (B, I, D)."""
        return self.first_memory(text, image)

    def _hints(self, x: Tensor, given: Conditions) -> Tensor:
        """The channels beside the noise, (B, W, H, h, w): all hints, only the last latent, or none."""
        if self.config.camera is not None:
            assert given.hints is not None
            return given.hints
        return self.base(given).expand_as(x) if self.config.prior_variance else x[:, :, :0]
