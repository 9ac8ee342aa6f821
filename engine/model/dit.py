"""The MemoryPack DiT: FramePack-F1 backbone, SemanticPack memory, actions, rectified flow.

Condition tokens are [image | text | ψ]; visual tokens are [4x | 2x | anchor, 1x | noisy], of which the noisy
ones come out. t = 0 is noise, t = 1 is data (the paper's convention), the network's answer is the velocity
x − ε.

Legend: B batch, W latent frames of the segment, C channels, h w latent size, D width, M memory tokens.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.blocks import DoubleBlock, Modulation, SingleBlock, modulate
from engine.model.config import ModelConfig
from engine.model.memory import ImageTokens, Memorize, Squeeze
from engine.model.packing import KERNELS, Packing, PatchEmbed, Positions
from engine.model.precondition import Precondition, shifted

FREQUENCIES = 128  # of the sinusoidal embedding of a scalar


class ScalarEmbed(nn.Module):
    """Sinusoids of a scalar in [0, 1], then Linear, SiLU, Linear. `silent`: starts as a no-op."""

    def __init__(self, dim: int, *, silent: bool = False) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(2 * FREQUENCIES, dim), nn.Linear(dim, dim)
        if silent:
            nn.init.zeros_(self.linear_2.weight)
            nn.init.zeros_(self.linear_2.bias)

    def forward(self, value: Tensor) -> Tensor:
        """(B,) → (B, D)."""
        steps = torch.arange(FREQUENCIES, device=value.device, dtype=torch.float32) / FREQUENCIES
        phase = 1000 * value.float()[:, None] * torch.exp(-math.log(10000) * steps)
        out: Tensor = self.linear_2(F.silu(self.linear_1(torch.cat([phase.cos(), phase.sin()], -1))))
        return out


class TextSlots(nn.Module):
    """What a prompt says, as probabilities per attribute, → one token per attribute and a pooled vector."""

    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.sizes = list(c.slots)
        self.tables = nn.ParameterList([nn.Parameter(0.5 * torch.randn(n, c.dim)) for n in c.slots])
        self.pool_1, self.pool_2 = nn.Linear(len(c.slots) * c.dim, c.dim), nn.Linear(c.dim, c.dim)

    def forward(self, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """(B, sum of classes) → text (B, N, D), pooled (B, D)."""
        parts = probabilities.split(self.sizes, -1)
        text = torch.stack([p @ table for p, table in zip(parts, self.tables, strict=True)], 1)
        return text, self.pool_2(F.silu(self.pool_1(text.flatten(1))))


class MemoryPackDiT(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c = self.config = config
        inputs = c.channels * (1 + len(c.shift_cells) if c.prior_variance else 1)
        self.x_embedder = PatchEmbed(inputs, c.dim, KERNELS["1x"])
        self.packing = Packing(c)
        self.positions = Positions(c)
        self.action_embedder = nn.Embedding(len(c.actions), c.dim)
        self.text_slots = TextSlots(c)
        self.image_tokens = ImageTokens(c)
        self.memorize = Memorize(c)
        self.squeeze = Squeeze(c)
        self.kind = nn.Parameter(0.1 * torch.randn(3, c.dim))  # image, text, ψ: which is which
        self.time_embedder = ScalarEmbed(c.dim)
        self.jump_embedder = ScalarEmbed(c.dim, silent=True)
        self.noise_embedder = ScalarEmbed(c.dim, silent=True)
        self.context_embedder = nn.Embedding(2, c.dim)
        self.transformer_blocks = nn.ModuleList(
            [DoubleBlock(c.dim, c.heads, c.mlp_ratio) for _ in range(c.double_blocks)]
        )
        self.single_transformer_blocks = nn.ModuleList(
            [SingleBlock(c.dim, c.heads, c.mlp_ratio) for _ in range(c.single_blocks)]
        )
        self.norm_out = Modulation(c.dim, 2)  # scale, shift, in this order
        self.proj_out = nn.Linear(c.dim, 4 * c.channels)
        self.precondition = Precondition(c.prior_variance)
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
        nn.init.normal_(self.action_embedder.weight, std=0.5)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        d: Tensor,
        psi: Tensor,
        text: Tensor,
        pooled: Tensor,
        image: Tensor,
        history: Tensor,
        anchor: Tensor,
        context: Tensor,
        sigma: Tensor,
        actions: Tensor,
        index: Tensor,
    ) -> Tensor:
        """The role `denoise` of the step contract (engine.model.signature): → velocity (B, W, C, h, w)."""
        net = self.network(x, t, d, psi, text, pooled, image, history, anchor, context, sigma, actions, index)
        return self.precondition.velocity(x, t, net, self.base(history, context), context)

    @staticmethod
    def base(history: Tensor, context: Tensor) -> Tensor:
        """The last clean latent (B, 1, C, h, w), zero where there is none."""
        return history[:, -1:] * context[:, None, None, None, None]

    def network(
        self,
        x: Tensor,
        t: Tensor,
        d: Tensor,
        psi: Tensor,
        text: Tensor,
        pooled: Tensor,
        image: Tensor,
        history: Tensor,
        anchor: Tensor,
        context: Tensor,
        sigma: Tensor,
        actions: Tensor,
        index: Tensor,
    ) -> Tensor:
        """What the transformer itself answers, before preconditioning: (B, W, C, h, w), unit variance."""
        c = self.config
        b, w = x.shape[:2]
        noisy = x
        if c.prior_variance:
            noisy = torch.cat([x, shifted(self.base(history, context), actions, c)], 2)
        tokens = self.x_embedder(noisy).unflatten(1, (w, -1)) + self.action_embedder(actions)[:, :, None]
        visual = torch.cat([self.packing(history, anchor), tokens.flatten(1, 2)], 1)
        condition = torch.cat([image + self.kind[0], text + self.kind[1], psi + self.kind[2]], 1)
        temb = self.time_embedder(t) + self.jump_embedder(d) + self.noise_embedder(sigma) + pooled
        temb = temb + self.context_embedder((context > 0.5).long())
        rope = self.positions(index)
        for block in (*self.transformer_blocks, *self.single_transformer_blocks):
            visual, condition = block(visual, condition, temb, rope)
        scale, shift = self.norm_out(temb)
        out = self.proj_out(modulate(visual[:, -tokens.shape[1] * tokens.shape[2] :], shift, scale))
        out = out.reshape(b, w, c.latent_height // 2, c.latent_width // 2, c.channels, 2, 2)
        answer: Tensor = out.permute(0, 1, 4, 2, 5, 3, 6).reshape(x.shape)
        return answer
