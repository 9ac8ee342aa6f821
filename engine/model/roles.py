"""The whole model and its roles: one module per function of the step contract.

It holds the DiT with its memory, the autoencoder, the text encoder and the frozen token embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engine.model.autoencoder import Autoencoder, AutoencoderConfig, to_bytes, to_unit
from engine.model.config import ModelConfig, build
from engine.model.dit import MemoryPackDiT
from engine.model.signature import ModelSpec
from engine.model.text import TextConfig, TextEncoder


@dataclass(frozen=True)
class WorldModelConfig:
    dit: ModelConfig
    autoencoder: AutoencoderConfig
    text: TextConfig

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> WorldModelConfig:
        return build(cls, data)


class WorldModel(nn.Module):
    embeddings: Tensor

    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__()
        self.config = config
        self.dit = MemoryPackDiT(config.dit)
        self.autoencoder = Autoencoder(config.autoencoder)
        self.text = TextEncoder(config.text)
        self.register_buffer(
            "embeddings",
            torch.zeros(config.text.vocabulary, config.text.embedding, dtype=torch.float16),
            persistent=False,
        )

    def spec(
        self, *, name: str, fps: int, steps: int, first_steps: int, context_noise: float = 0.0
    ) -> ModelSpec:
        c, t = self.config.dit, self.config.text
        return ModelSpec(
            name=name,
            height=8 * c.latent_height,
            width=8 * c.latent_width,
            fps=fps,
            latent_channels=c.channels,
            latent_height=c.latent_height,
            latent_width=c.latent_width,
            frames_per_latent=4,
            segment=c.segment,
            history=c.packing.history,
            text_length=t.length,
            text_tokens=len(c.slots),
            image_tokens=c.memory.tokens - c.memory.text_tokens,
            model_dim=c.dim,
            decoder_state=(c.channels, c.latent_height, c.latent_width),
            actions=c.actions,
            steps=steps,
            first_steps=first_steps,
            context_noise=context_noise,
        )

    def roles(self) -> dict[str, nn.Module]:
        """Role name → module whose forward takes the role's inputs in the signature's order."""
        return {
            "encode_text": EncodeText(self),
            "encode_image": EncodeImage(self.autoencoder),
            "embed_image": self.dit.image_tokens,
            "memorize": self.dit.memorize,
            "squeeze": self.dit.squeeze,
            "denoise": self.dit,
            "decode": Decode(self.autoencoder),
        }


class EncodeText(nn.Module):
    """Token ids → text tokens, pooled vector, and how likely the prompt asks for each motion (0: unsaid)."""

    def __init__(self, model: WorldModel) -> None:
        super().__init__()
        self.text, self.slots = model.text, model.dit.text_slots
        self.register_buffer("embeddings", model.embeddings, persistent=False)

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        embedded = self.embeddings[ids].float()  # type: ignore[index]
        p = self.text.probabilities(self.text(embedded, mask))
        tokens, pooled = self.slots(p)
        return tokens, pooled, p[:, -self.text.config.slots[-1] :]


class EncodeImage(nn.Module):
    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, pixels: Tensor) -> Tensor:
        return self.autoencoder.encode_image(to_unit(pixels))


class Decode(nn.Module):
    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, latents: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        frames, state = self.autoencoder.decode(latents, state)
        return to_bytes(frames), state
