"""FramePack's roles: the transformer with its text, image and video models, connected to the step contract.

engine.companions loads these other models. Inputs and outputs are fp32 in whatever type the transformer
computes.

Legend: B batch, L ids of both tokenizers, N text tokens, I image tokens, M memory tokens, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from engine.model.conditions import denoise_inputs, no_motion
from engine.model.config import ModelConfig
from engine.model.framepack.transformer import FramePackDiT
from engine.model.signature import ModelSpec, signature


@dataclass(frozen=True)
class Serve:
    """How to play a converted checkpoint: the `serve` part of its config.json."""

    height: int
    width: int
    fps: int
    steps: int
    sampler: Literal["euler", "unipc"] = "euler"
    shift: int = 1
    decoder: Literal["taehv", "vae"] = "taehv"  # vae: HunyuanVideo's own, which is slower and exact


class Text(Protocol):
    """LLaMA and CLIP."""

    length: int
    tokens: int
    width: int
    pooled_width: int

    def __call__(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]: ...


class ImageEncoder(Protocol):
    """SigLIP."""

    tokens: int
    width: int

    def __call__(self, pixels: Tensor) -> Tensor: ...


class Encoder(Protocol):
    """The video autoencoder's encoder, for one picture."""

    def encode(self, pixels: Tensor) -> Tensor: ...


class Decoder(Protocol):
    def state_size(self, height: int, width: int) -> int: ...

    def begin(self, start: Tensor) -> Tensor: ...

    def __call__(self, latents: Tensor, state: Tensor) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class Companions:
    text: Text
    image: ImageEncoder
    encoder: Encoder
    decoder: Decoder


def spec_of(name: str, c: ModelConfig, serve: Serve, *, text_length: int, decoder_state: int) -> ModelSpec:
    """`text_length` counts the ids of both tokenizers, `decoder_state` the numbers in the decoder's state."""
    return ModelSpec(
        name=name,
        height=serve.height,
        width=serve.width,
        fps=serve.fps,
        latent_channels=c.channels,
        latent_height=c.latent_height,
        latent_width=c.latent_width,
        frames_per_latent=4,
        segment=c.segment,
        history=c.packing.history,
        text_length=text_length,
        text_tokens=c.memory.text_tokens,
        image_tokens=c.memory.tokens - c.memory.text_tokens,
        model_dim=c.dim,
        decoder_state=(decoder_state,),
        actions=c.actions,
        steps=serve.steps,
        first_steps=serve.steps,
        text_dim=c.text_dim,
        pooled_dim=c.pooled_dim,
        masked=True,
        needs_image=True,
        sampler=serve.sampler,
        shift=serve.shift,
    )


def roles_of(spec: ModelSpec, dit: FramePackDiT, companions: Companions) -> dict[str, nn.Module]:
    """A module per role, whose forward takes the role's inputs in the signature's order."""
    return {
        "encode_text": EncodeText(companions.text),
        "encode_image": EncodeImage(companions, dit),
        "initial_memory": InitialMemory(dit),
        "memorize": Memorize(dit),
        "squeeze": Squeeze(dit),
        "denoise": Denoise(dit, signature(spec)["denoise"].input_names),
        "decode": Decode(companions.decoder),
    }


class DitRole(nn.Module):
    """A role that calls the transformer. `cast` converts floats to its precision."""

    def __init__(self, dit: FramePackDiT) -> None:
        super().__init__()
        self.dit = dit

    def cast(self, x: Tensor) -> Tensor:
        return x.to(self.dit.proj_out.weight.dtype)


class EncodeText(nn.Module):
    def __init__(self, text: Text) -> None:
        super().__init__()
        self.text = text

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """→ text, the mask of its real tokens, pooled, and that the prompt asks for no motion."""
        text, text_mask, pooled = self.text(ids, mask)
        return text.float(), text_mask, pooled.float(), no_motion(text)


class EncodeImage(DitRole):
    def __init__(self, companions: Companions, dit: FramePackDiT) -> None:
        super().__init__(dit)
        self.image, self.encoder, self.decoder = companions.image, companions.encoder, companions.decoder

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, H, W) uint8 → anchor (B, 1, C, h, w), image tokens (B, I, D), and the decoder's state (B, S)
        after showing the picture."""
        tokens = self.dit.image_projection(self.cast(self.image(pixels)))
        anchor = self.encoder.encode(pixels).float()
        return anchor, tokens.float(), self.decoder.begin(anchor)


class InitialMemory(DitRole):
    def forward(self, text: Tensor, image: Tensor, text_mask: Tensor) -> tuple[Tensor, Tensor]:
        """ψ₀ (B, M, D) and its mask (B, M), which leaves out the prompt's padding."""
        psi = self.dit.initial_memory(self.cast(text), self.cast(image), self.cast(text_mask))
        return psi.float(), torch.cat([text_mask, torch.ones_like(image[..., 0])], 1)


class Memorize(DitRole):
    def forward(self, segment: Tensor) -> Tensor:
        out: Tensor = self.dit.memorize(self.cast(segment))
        return out.float()


class Squeeze(DitRole):
    def forward(self, psi: Tensor, memory: Tensor, psi_mask: Tensor) -> Tensor:
        out: Tensor = self.dit.squeeze(self.cast(psi), self.cast(memory), self.cast(psi_mask))
        return out.float()


class Denoise(DitRole):
    """Times, noise levels and positions stay fp32, since bf16 cannot tell neighbouring steps apart."""

    EXACT = ("t", "d", "sigma", "index", "context")

    def __init__(self, dit: FramePackDiT, names: list[str]) -> None:
        super().__init__(dit)
        self.names = tuple(names)

    def forward(self, *inputs: Tensor) -> Tensor:
        named = zip(self.names, inputs, strict=True)
        velocity: Tensor = self.dit(
            *denoise_inputs({name: x if name in self.EXACT else self.cast(x) for name, x in named})
        )
        return velocity.float()


class Decode(nn.Module):
    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, latents: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return self.decoder(latents, state)
