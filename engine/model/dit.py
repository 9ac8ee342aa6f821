"""The MemoryPack DiT: FramePack-F1's backbone with SemanticPack memory, actions and rectified flow.

This module holds what the families share. A family is a subclass with its own embedders and its own `forward`
(engine.model.wander.transformer, engine.model.framepack.transformer); nothing here knows which there are.

Condition tokens are [image | text | ψ]. Visual tokens are [4x | 2x | anchor, 1x | noisy]; the noisy ones are
read out. t = 0 is noise and t = 1 is data, as in the paper, and the answer is the velocity x − ε.
Modules that the public checkpoints have keep their names; EXTRA lists what is added to them.

Legend: B batch, W latent frames of the segment, C channels, h w latent size, N text tokens, I image tokens, M
memory tokens, V visual tokens, Y = I + N + M condition tokens, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.blocks import MASKED, DoubleBlock, Modulation, OutputNorm, SingleBlock
from engine.model.conditions import Conditions
from engine.model.config import ModelConfig
from engine.model.embed import ScalarEmbed, TimeTextEmbed
from engine.model.memory import Memorize, Squeeze
from engine.model.packing import CleanEmbed, NoisyEmbed, Positions

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

    def __init__(self, config: ModelConfig, *, guidance: float | None = None) -> None:
        """`guidance` is the scale that a checkpoint was distilled with.

        Saved optimiser states and seeds depend on the order in which modules are made, so a family adds its
        own in `add_embedders` and `add_outputs`."""
        super().__init__()
        c = self.config = config
        self.x_embedder = NoisyEmbed(c.channels + c.hint_channels, c.dim)
        self.clean_x_embedder = CleanEmbed(c)
        self.positions = Positions(c)
        self.add_embedders()
        self.time_text_embed = TimeTextEmbed(c.dim, c.pooled_dim, guidance)
        self.transformer_blocks = nn.ModuleList(
            [DoubleBlock(c.dim, c.heads, c.mlp_ratio) for _ in range(c.double_blocks)]
        )
        self.single_transformer_blocks = nn.ModuleList(
            [SingleBlock(c.dim, c.heads, c.mlp_ratio) for _ in range(c.single_blocks)]
        )
        self.norm_out = OutputNorm(c.dim)
        self.proj_out = nn.Linear(c.dim, 4 * c.channels)
        self.add_outputs()

        self.memorize, self.squeeze = Memorize(c), Squeeze(c)
        self.kind = nn.Parameter(0.1 * torch.randn(3, c.dim))  # tells image, text and ψ tokens apart
        self.jump_embedder = ScalarEmbed(c.dim, silent=True)
        self.noise_embedder = ScalarEmbed(c.dim, silent=True)
        self.scene_embedder = nn.Embedding(2, c.dim)  # 1: there is a scene to continue
        if len(c.actions) > 1:
            self.action_embedder = nn.Embedding(len(c.actions), c.dim)
        if c.memory.key_bias is None:
            self.psi_bias = None
        else:
            self.psi_bias = nn.Parameter(torch.full((len(self.blocks),), c.memory.key_bias))
        self._initialise()

    def add_embedders(self) -> None:
        """Add the family's modules that turn prompts and reference images into tokens."""

    def add_outputs(self) -> None:
        """Add the family's layers beside `proj_out`."""

    def forward(self, x: Tensor, t: Tensor, d: Tensor, given: Conditions) -> Tensor:
        """The role `denoise` of the step contract: x (B, W, C, h, w), t and d (B,) → velocity like x."""
        raise NotImplementedError

    @property
    def blocks(self) -> list[nn.Module]:
        return [*self.transformer_blocks, *self.single_transformer_blocks]

    def transform(self, x: Tensor, *, time: Tensor, jump: Tensor, text: Tensor, given: Conditions) -> Tensor:
        """Run the blocks over all tokens → the noisy ones (B, W h/2 w/2, D), normalised, in fp32.

        x (B, W, C and hints, h, w); time (B,) as the checkpoint counts it; text (B, N, D)."""
        noisy = self.noisy_tokens(x, given)
        count, rope = noisy.shape[1], self.positions(given.index)
        if given.bare:
            visual, rope = noisy, rope.last(count)
        else:
            visual = torch.cat([self.clean_x_embedder(given.history, given.anchor), noisy], 1)
        condition = torch.cat([given.image + self.kind[0], text + self.kind[1], given.psi + self.kind[2]], 1)
        mask, temb = _mask(given), self._modulation(time, jump, given)
        for number, block in enumerate(self.blocks):
            bias = self._key_bias(number, visual, condition, mask)
            visual, condition = block(visual, condition, temb=temb, rope=rope, bias=bias)
        last: Tensor = self.norm_out(visual[:, -count:], temb)
        return last.float()  # the last layer computes in fp32, as in FramePack

    def latents(self, tokens: Tensor, layer: nn.Linear) -> Tensor:
        """A last layer in fp32: tokens (B, W h/2 w/2, D) → (B, W, N, h, w), where the layer gives N numbers
        for each of a token's four latent cells."""
        c, numbers = self.config, layer.out_features // 4
        out = F.linear(tokens, layer.weight.float(), layer.bias.float())
        cells = out.reshape(-1, c.segment, c.latent_height // 2, c.latent_width // 2, numbers, 2, 2)
        picture: Tensor = cells.permute(0, 1, 4, 2, 5, 3, 6)
        return picture.reshape(-1, c.segment, numbers, c.latent_height, c.latent_width)

    def first_memory(self, text: Tensor, image: Tensor) -> Tensor:
        """ψ₀ = [text; image] (B, M, D) of tokens as the transformer reads them; zeros with
        `memory.start = "zero"`."""
        psi = torch.cat([text, image], 1)
        return psi * 0 if self.config.memory.start == "zero" else psi

    def noisy_tokens(self, x: Tensor, given: Conditions) -> Tensor:
        """The noisy tokens (B, W h/2 w/2, D), each with the embedding of its frame's action."""
        tokens: Tensor = self.x_embedder(x)
        if given.actions is None or len(self.config.actions) == 1:
            return tokens
        actions = self.action_embedder(given.actions)[:, :, None]
        acting: Tensor = tokens.unflatten(1, (x.shape[1], -1)) + actions
        return acting.flatten(1, 2)

    def _modulation(self, time: Tensor, jump: Tensor, given: Conditions) -> Tensor:
        """The sum of embeddings that modulates every block, (B, D)."""
        temb: Tensor = self.time_text_embed(time, given.pooled)
        temb = temb + self.jump_embedder(jump) + self.noise_embedder(given.sigma)
        out: Tensor = temb + self.scene_embedder((given.context > 0.5).long())
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

    def _initialise(self) -> None:
        for block in self.blocks:
            for module in block.modules():
                if isinstance(module, Modulation):
                    module.initialise()
        self.norm_out.initialise()
        nn.init.normal_(self.proj_out.weight, std=0.02)
        nn.init.zeros_(self.proj_out.bias)
        if len(self.config.actions) > 1:
            nn.init.normal_(self.action_embedder.weight, std=0.5)


def _mask(given: Conditions) -> Tensor | None:
    """Which condition tokens count, (B, Y); None where all do."""
    if given.text_mask is None or given.psi_mask is None:
        return None
    return torch.cat([torch.ones_like(given.image[..., 0]), given.text_mask, given.psi_mask], 1)
