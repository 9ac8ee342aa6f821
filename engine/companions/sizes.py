"""FramePack's spec without its companions' weights: their sizes are known."""

from __future__ import annotations

from engine.companions.prompt import TEXT_TOKENS
from engine.companions.taehv import MEMORY
from engine.companions.vae_stream import CELL
from engine.model.config import ModelConfig
from engine.model.framepack.roles import Serve, spec_of
from engine.model.signature import ModelSpec

TEMPLATE = 95  # ids of HunyuanVideo's prompt template, before the prompt's own
CLIP_LENGTH = 77
TEXT_LENGTH = TEMPLATE + TEXT_TOKENS + CLIP_LENGTH  # ids of both tokenizers


def framepack_spec(name: str, config: ModelConfig, serve: Serve) -> ModelSpec:
    """The spec with the public companions' sizes."""
    return spec_of(name, config, serve, text_length=TEXT_LENGTH, decoder_state=decoder_state(config, serve))


def decoder_state(config: ModelConfig, serve: Serve) -> int:
    """Numbers in the decoder's state: TAEHV keeps eight latents, HunyuanVideo's decoder a segment and one
    frame."""
    latents, pixels = (MEMORY, 0) if serve.decoder == "taehv" else (config.segment, CELL)
    return 1 + (latents * config.channels + pixels) * config.latent_height * config.latent_width
