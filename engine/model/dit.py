"""The MemoryPack DiT: FramePack-F1 backbone, SemanticPack memory, actions, rectified flow.

Condition tokens are [image | text | ψ]; visual tokens are [4x | 2x | anchor, 1x | noisy], of which the noisy
ones come out. t = 0 is noise, t = 1 is data (the paper's convention), the answer is the velocity x − ε.
Modules that the public checkpoints have carry their names; what the checkpoints lack stands in EXTRA.

Legend: B batch, W latent frames of the segment, C channels, h w latent size, D width, M memory tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model import flow
from engine.model.blocks import MASKED, DoubleBlock, Modulation, SingleBlock, modulate
from engine.model.conditions import (
    ImageProjection,
    ImageTokens,
    ScalarEmbed,
    TextSlots,
    TimeTextEmbed,
    TokenRefiner,
)
from engine.model.config import ModelConfig
from engine.model.memory import Memorize, Squeeze
from engine.model.packing import CleanEmbed, NoisyEmbed, Positions
from engine.model.wander.precondition import Precondition

Given = Mapping[str, Tensor]  # the inputs of `denoise` (engine.model.signature) besides x, t and d

# What psistream adds to the backbone. On a public checkpoint all of it starts as a no-op
# (export/framepack/convert.py).
EXTRA = (
    "memorize",
    "squeeze",
    "psi_bias",
    "kind",
    "jump_embedder",
    "noise_embedder",
    "scene_embedder",
    "action_embedder",
)


class MemoryPackDiT(nn.Module):
    psi_bias: Tensor | None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c = self.config = config
        inputs = c.channels + c.hint_channels
        self.x_embedder = NoisyEmbed(inputs, c.dim)
        self.clean_x_embedder = CleanEmbed(c)
        self.positions = Positions(c)
        if c.hunyuan is not None:
            h = c.hunyuan
            self.context_embedder = TokenRefiner(c.dim, c.heads, c.mlp_ratio, h)
            self.image_projection = ImageProjection(h.image_dim, c.dim)
        else:
            self.text_slots = TextSlots(c)
            self.image_tokens = ImageTokens(c)
        self.time_text_embed = TimeTextEmbed(c.dim, c.pooled_dim, c.hunyuan.guidance if c.hunyuan else None)
        self.transformer_blocks = nn.ModuleList(
            [DoubleBlock(c.dim, c.heads, c.mlp_ratio) for _ in range(c.double_blocks)]
        )
        self.single_transformer_blocks = nn.ModuleList(
            [SingleBlock(c.dim, c.heads, c.mlp_ratio) for _ in range(c.single_blocks)]
        )
        self.norm_out = Modulation(c.dim, 2)  # scale, shift, in this order
        self.proj_out = nn.Linear(c.dim, 4 * c.channels)
        self.precondition = Precondition(c.prior_variance)
        if c.carry:
            assert c.camera is not None
            self.carry = nn.Linear(c.dim, 4 * c.camera.candidates)

        self.memorize, self.squeeze = Memorize(c), Squeeze(c)
        self.kind = nn.Parameter(0.1 * torch.randn(3, c.dim))  # image, text, ψ: which is which
        self.jump_embedder = ScalarEmbed(c.dim, silent=True)
        self.noise_embedder = ScalarEmbed(c.dim, silent=True)
        self.scene_embedder = nn.Embedding(2, c.dim)  # 1: there is a scene to go on with
        if len(c.actions) > 1:
            self.action_embedder = nn.Embedding(len(c.actions), c.dim)
        if c.memory.key_bias is None:
            self.psi_bias = None
        else:
            self.psi_bias = nn.Parameter(torch.full((c.double_blocks + c.single_blocks,), c.memory.key_bias))
        self._initialise()

    def _initialise(self) -> None:
        """Small modulations with gates at one half: zero gates cost a third of a short training."""
        blocks = [*self.transformer_blocks, *self.single_transformer_blocks]
        for module in [m for b in blocks for m in b.modules() if isinstance(m, Modulation)] + [self.norm_out]:
            nn.init.normal_(module.linear.weight, std=0.01)
            nn.init.zeros_(module.linear.bias)
            for gate in (2, 5):
                if gate < module.count:
                    module.linear.bias.data.view(module.count, -1)[gate] = 0.5
        nn.init.normal_(self.proj_out.weight, std=0.02)
        nn.init.zeros_(self.proj_out.bias)
        if self.config.carry:
            nn.init.zeros_(self.carry.weight)
            nn.init.zeros_(self.carry.bias)
        if len(self.config.actions) > 1:
            nn.init.normal_(self.action_embedder.weight, std=0.5)

    def forward(self, x: Tensor, t: Tensor, d: Tensor, given: Given) -> Tensor:
        """The role `denoise` of the step contract: → velocity (B, W, C, h, w)."""
        net = self.network(x, t, d, given)
        return self.precondition.velocity(x, t, net, self.base(given), given["context"])

    def base(self, given: Given) -> Tensor:
        """The clean latent next to the segment (B, 1, C, h, w), zero where there is none."""
        history = given["history"]
        nearest = history[:, -1:] if self.config.packing.order == "f1" else history[:, :1]
        return nearest * flow.wide(given["context"], nearest)

    def network(self, x: Tensor, t: Tensor, d: Tensor, given: Given) -> Tensor:
        """What the transformer itself answers, before preconditioning: (B, W, C, h, w). Without
        preconditioning that is the velocity."""
        c = self.config
        w = x.shape[1]
        base = self.base(given)
        hints = given["hints"] if c.camera else base.expand_as(x) if c.prior_variance else x[:, :, :0]
        visual, noisy = self._visual(torch.cat([x, hints], 2), given)
        condition, mask = self._condition(t, given)
        temb = self._modulation(t, d, given)
        rope = self.positions(given["index"])
        if "bare" in given:
            rope = rope[0][:, :, -noisy:], rope[1][:, :, -noisy:]
        for number, block in enumerate((*self.transformer_blocks, *self.single_transformer_blocks)):
            bias = self._key_bias(number, visual, condition, mask)
            visual, condition = block(visual, condition, temb, rope, bias)
        scale, shift = self.norm_out(temb)
        last = modulate(visual[:, -noisy:], shift, scale).float()  # the last layer in fp32, as FramePack does
        answer = self._cells(F.linear(last, self.proj_out.weight.float(), self.proj_out.bias.float()), w)
        if c.carry and c.camera is not None:
            share = self._cells(F.linear(last, self.carry.weight.float(), self.carry.bias.float()), w)
            candidates = hints[:, :, : c.camera.candidates * c.channels].unflatten(2, (-1, c.channels))
            answer = answer + self.precondition.carried(x, t, base, candidates, share, given["context"])
        return flow.checkpoint_velocity(answer) if c.hunyuan else answer

    def _cells(self, tokens: Tensor, frames: int) -> Tensor:
        """(B, W h/2 w/2, 4 N) → (B, W, N, h, w): a token's numbers for its four latent cells."""
        c = self.config
        numbers = tokens.shape[-1] // 4
        cells = tokens.reshape(-1, frames, c.latent_height // 2, c.latent_width // 2, numbers, 2, 2)
        out: Tensor = cells.permute(0, 1, 4, 2, 5, 3, 6)
        return out.reshape(-1, frames, numbers, c.latent_height, c.latent_width)

    def initial_memory(self, text: Tensor, image: Tensor, text_mask: Tensor | None = None) -> Tensor:
        """ψ₀ = [text; image] (B, M, D), the prompt as the transformer reads it at t = 1; or zeros."""
        if self.config.hunyuan is not None:
            assert text_mask is not None
            text = self.context_embedder(text, text_mask, torch.zeros_like(text_mask[:, 0]))
        psi = torch.cat([text, image], 1)
        return psi * 0 if self.config.memory.start == "zero" else psi

    # ---- parts ----

    def _visual(self, x: Tensor, given: Given) -> tuple[Tensor, int]:
        """The visual tokens (B, V, D), and how many at the end of them are noisy; x with its hints."""
        tokens = self.x_embedder(x)
        if len(self.config.actions) > 1:
            actions = self.action_embedder(given["actions"])[:, :, None]
            tokens = (tokens.unflatten(1, (x.shape[1], -1)) + actions).flatten(1, 2)
        if "bare" in given:  # training on scenes from nothing: there is no history to look at
            return tokens, tokens.shape[1]
        clean = self.clean_x_embedder(given["history"], given["anchor"])
        return torch.cat([clean, tokens], 1), tokens.shape[1]

    def _condition(self, t: Tensor, given: Given) -> tuple[Tensor, Tensor | None]:
        """[image | text | ψ] (B, Y, D), and which of them count (B, Y)."""
        text, image, psi, mask = given["text"], given["image"], given["psi"], None
        if self.config.hunyuan is not None:
            mask = torch.cat([torch.ones_like(image[..., 0]), given["text_mask"], given["psi_mask"]], 1)
            text = self.context_embedder(text, given["text_mask"], flow.checkpoint_time(t))
        return torch.cat([image + self.kind[0], text + self.kind[1], psi + self.kind[2]], 1), mask

    def _modulation(self, t: Tensor, d: Tensor, given: Given) -> Tensor:
        time = flow.checkpoint_time(t) if self.config.hunyuan is not None else t
        temb: Tensor = self.time_text_embed(time, given["pooled"])
        temb = temb + self.jump_embedder(d) + self.noise_embedder(given["sigma"])
        out: Tensor = temb + self.scene_embedder((given["context"] > 0.5).long())
        return out

    def _key_bias(self, block: int, visual: Tensor, condition: Tensor, mask: Tensor | None) -> Tensor | None:
        """(B, 1, 1, V + Y) for the keys of a block, or None where all count alike."""
        if mask is None and self.psi_bias is None:
            return None
        keys = torch.zeros_like(condition[..., 0]) if mask is None else (mask - 1) * -MASKED
        if self.psi_bias is not None:
            tokens = self.config.memory.tokens
            others = torch.zeros_like(keys[:, :-tokens])
            keys = keys + torch.cat([others, self.psi_bias[block].expand(keys.shape[0], tokens)], 1)
        return torch.cat([torch.zeros_like(visual[..., 0]), keys], 1)[:, None, None]
