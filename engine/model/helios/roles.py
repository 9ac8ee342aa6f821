"""Helios' roles: the transformer with its text and video models, connected to the step contract.

engine.companions.helios loads these other models. Inputs and outputs are fp32 in whatever type the
transformer computes.

Legend: B batch, L ids, N text tokens, E their width, I image tokens, M memory tokens, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from engine.model.conditions import no_motion
from engine.model.helios.border import FadedBorder, state_size
from engine.model.helios.config import CELL, HeliosConfig
from engine.model.helios.memory import SemanticPack
from engine.model.helios.serve import NAME, Serve
from engine.model.helios.transformer import HeliosTransformer
from engine.model.signature import ModelSpec, signature

OF_COMPANIONS = ("encode_text", "encode_image", "encode_video", "decode")  # roles that may run elsewhere
START_NOISE = (0.111, 0.135)  # least and most noise on a start picture's latents, as in the public pipelines


class Text(Protocol):
    """UMT5."""

    def __call__(self, ids: Tensor, mask: Tensor) -> Tensor: ...


class Encoder(Protocol):
    """The autoencoder's encoder: a picture → anchor and nearest latent; a segment's frames → its latents."""

    def start(self, pixels: Tensor, segment: int) -> tuple[Tensor, Tensor]: ...

    def encode(self, pixels: Tensor) -> Tensor: ...


class Decoder(Protocol):
    """A segment's latents → its frames."""

    def __call__(self, latents: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Companions:
    text: Text
    encoder: Encoder
    decoder: Decoder


def spec_of(c: HeliosConfig, serve: Serve) -> ModelSpec:
    calls = sum(serve.pyramid.steps)
    image = 0 if c.memory is None else c.memory.image_tokens[0] * c.memory.image_tokens[1]
    height, width = CELL * c.latent_height, CELL * c.latent_width
    state = state_size(height, width) if serve.border_frames else 0
    return ModelSpec(
        name=NAME,
        height=height,
        width=width,
        fps=serve.fps,
        latent_channels=c.channels,
        latent_height=c.latent_height,
        latent_width=c.latent_width,
        frames_per_latent=4,
        segment=c.segment,
        history=c.history,
        text_length=c.text_tokens,
        text_tokens=c.text_tokens,
        image_tokens=image,
        model_dim=c.dim,
        decoder_state=(state,),
        actions=("idle",),
        steps=calls,
        first_steps=calls * serve.pyramid.first_factor,
        text_dim=c.text_dim,
        sampler="pyramid",
        segment_frames=c.frames,
        stage_steps=serve.pyramid.steps,
        shift_by=serve.pyramid.shift_by,
        memory=c.memory is not None,
        pooled=False,
        start_noise=START_NOISE,
        encodes_video=True,
        anti_drift=serve.anti_drift,
        context_noise=serve.history_noise,
    )


def roles_of(
    spec: ModelSpec, model: HeliosTransformer, companions: Companions, border_frames: int = 0
) -> dict[str, nn.Module]:
    """A module per role, whose forward takes the role's inputs in the signature's order. All stages share the
    transformer."""
    state = spec.decoder_state[0] if spec.has_decoder_state else 0
    roles: dict[str, nn.Module] = {
        "encode_text": EncodeText(companions.text),
        "encode_image": EncodeImage(companions.encoder, model, state),
        "encode_video": EncodeVideo(companions.encoder),
        "decode": decode_role(companions.decoder, border_frames),
    }
    roles["project_text"] = ProjectText(model)
    contract = signature(spec)
    for role in spec.denoise_roles:
        roles[role] = Denoise(model, contract[role].input_names)
    if model.semantic_pack is not None:
        roles |= {
            "embed_image": EmbedImage(model),
            "initial_memory": InitialMemory(model),
            "memorize": Memorize(model),
            "squeeze": Squeeze(model),
        }
    return roles


class TransformerRole(nn.Module):
    """A role that calls the transformer. `cast` converts floats to its precision."""

    def __init__(self, model: HeliosTransformer) -> None:
        super().__init__()
        self.model = model

    def cast(self, x: Tensor) -> Tensor:
        return x.to(self.model.proj_out.weight.dtype) if x.is_floating_point() else x

    @property
    def pack(self) -> SemanticPack:
        assert self.model.semantic_pack is not None  # roles_of makes these roles only for models with ψ
        return self.model.semantic_pack


class EncodeText(nn.Module):
    def __init__(self, text: Text) -> None:
        super().__init__()
        self.text = text

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """→ text (B, N, E), and that the prompt asks for no motion."""
        text = self.text(ids, mask).float()
        return text, no_motion(text)


class EncodeImage(TransformerRole):
    def __init__(self, encoder: Encoder, model: HeliosTransformer, state: int = 0) -> None:
        """`state`: the size of the decoder's."""
        super().__init__(model)
        self.encoder, self.state = encoder, state

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) uint8 → anchor and nearest, each (B, 1, C, h, w), with ψ image tokens (B, I, D), and
        the decoder's state if it has one."""
        anchor, nearest = (x.float() for x in self.encoder.start(pixels, self.model.config.segment))
        made = [anchor, nearest]
        if self.model.semantic_pack is not None:
            near = self.cast(anchor.to(self.model.proj_out.weight.device))
            made.append(self.pack.image_tokens(self.model.patch_short(near)).float())
        if self.state:  # no segment is before the first one
            made.append(anchor.new_zeros(anchor.shape[0], self.state))
        return tuple(made)


class EncodeVideo(nn.Module):
    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, video: Tensor) -> Tensor:
        """A segment's frames (B, F, 3, H, W) uint8 → its latents (B, W, C, h, w)."""
        return self.encoder.encode(video).float()


class EmbedImage(TransformerRole):
    def forward(self, anchor: Tensor, context: Tensor) -> Tensor:
        """anchor (B, 1, C, h, w), context (B,) 1 where there is an anchor → (B, I, D), or zero without
        one."""
        tokens = self.pack.image_tokens(self.model.patch_short(self.cast(anchor)))
        return tokens.float() * context[:, None, None]


class ProjectText(TransformerRole):
    def forward(self, text: Tensor) -> Tensor:
        """text (B, N, E) → as the blocks read it (B, N, D). Rounding to fp32 and back loses nothing."""
        return self.model.project(self.cast(text)).float()


class InitialMemory(TransformerRole):
    def forward(self, text: Tensor, image: Tensor) -> Tensor:
        """ψ₀ (B, M, D)."""
        return self.pack.start(self.model.project(self.cast(text)), self.cast(image)).float()


class Memorize(TransformerRole):
    def forward(self, segment: Tensor) -> Tensor:
        out: Tensor = self.pack.memorize(self.cast(segment))
        return out.float()


class Squeeze(TransformerRole):
    def forward(self, psi: Tensor, memory: Tensor) -> Tensor:
        out: Tensor = self.pack.squeeze(self.cast(psi), self.cast(memory))
        return out.float()


class Denoise(TransformerRole):
    """Serves every stage. The transformer knows the stage by the size of x."""

    def __init__(self, model: HeliosTransformer, names: list[str]) -> None:
        super().__init__(model)
        self.names = tuple(names)

    def forward(self, *inputs: Tensor) -> Tensor:
        named = {name: self.cast(x) for name, x in zip(self.names, inputs, strict=True)}
        answer: Tensor = self.model(**named)
        return answer.float()


def decode_role(decoder: Decoder, border_frames: int) -> nn.Module:
    plain = Decode(decoder)
    return FadedBorder(plain, border_frames) if border_frames else plain


class Decode(nn.Module):
    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, latents: Tensor) -> Tensor:
        return self.decoder(latents)
