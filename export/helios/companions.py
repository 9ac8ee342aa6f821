"""Exports Helios' companions as graphs: UMT5's encoder, the autoencoder's encoder, and either decoder.

Their weights are written again beside the transformer's, under the graphs' names: UMT5 in bf16, since it
overflows in fp16; the autoencoder in fp32, as the public code runs it; TAEW2.1 in fp16, as it is published.
The autoencoder's loop over frames becomes a straight line of nodes, since a segment has a fixed length.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from engine.backends.helios import fits
from engine.companions.helios.files import CATALOGUE, TAEW
from engine.companions.helios.taew import SegmentDecoder
from engine.companions.helios.text import TextCompanion
from engine.companions.helios.vae import WanVae
from engine.model.helios.config import HeliosConfig
from engine.model.helios.roles import Companions, EncodeImage, EncodeText, EncodeVideo, decode_role
from engine.model.helios.serve import Serve
from engine.model.helios.transformer import HeliosTransformer
from engine.model.signature import ModelSpec
from export.weights import write_shards

NAME = "companions"  # of the files, and the prefix of all tensor names in them
ROLES = ("encode_text", "encode_image", "encode_video", "decode")
TEXT, FRAMES, FAST = torch.bfloat16, torch.float32, torch.float16  # how weights are stored


def precision(role: str, wanted: str, serve: Serve) -> str:
    """The precision of a companion's role when the transformer's is `wanted`."""
    if wanted == "fp32" or role in ("encode_image", "encode_video"):
        return "fp32"
    if role == "decode":
        return "fp16" if serve.decoder == "taew" else "fp32"
    return "bf16"


def lacking(folder: Path, serve: Serve) -> list[str]:
    """The companions whose files `folder` lacks."""
    parts = [p for p in CATALOGUE.parts if p != "transformer" and (p != TAEW or serve.decoder == "taew")]
    return [part for part in parts if CATALOGUE.missing(folder, part)]


def load(folder: Path, config: HeliosConfig, serve: Serve, device: torch.device | None = None) -> Companions:
    """In the types that weights are stored in. Raises ModelFilesError, and Unavailable without transformers
    and diffusers."""
    on = device or torch.device("cpu")
    vae = WanVae.load(folder, device=on, dtype=FRAMES)
    vae.model.disable_slicing()  # slicing saves memory, but graphs have no loops
    text = TextCompanion.load(folder, device=on, dtype=TEXT)
    fits(config, text)
    fast = serve.decoder == "taew"
    return Companions(text, vae, SegmentDecoder.load(folder, device=on, dtype=FAST) if fast else vae)


def computing_in(found: Companions, wanted: str, serve: Serve) -> Companions:
    """Change the type that they compute in, from the rounded weights."""
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    for role, module in (("encode_text", found.text), ("decode", found.decoder)):
        assert isinstance(module, nn.Module)
        if not shared(found) or role == "encode_text":
            for p in module.parameters():
                p.data = p.data.to(kinds[precision(role, wanted, serve)])
    return found


def shared(found: Companions) -> bool:
    """Whether the decoder is the autoencoder's own, with the encoder's weights beside it."""
    return isinstance(found.decoder, WanVae)


def parts(found: Companions) -> nn.ModuleDict:
    """All companions, under the names that their weights are stored with."""
    named = {"text": found.text, "vae": found.encoder, "decoder": found.decoder}
    if shared(found):
        del named["decoder"]
    return nn.ModuleDict({name: module for name, module in named.items() if isinstance(module, nn.Module)})


def roles_of(
    model: HeliosTransformer, found: Companions, spec: ModelSpec, serve: Serve
) -> dict[str, nn.Module]:
    state = spec.decoder_state[0] if spec.has_decoder_state else 0
    return {
        "encode_text": EncodeText(found.text),
        "encode_image": EncodeImage(found.encoder, model, state),
        "encode_video": EncodeVideo(found.encoder),
        "decode": decode_role(found.decoder, serve.border_frames),
    }


def write_weights(found: Companions, out: Path) -> list[Path]:
    """Write the weights once for all graphs, in shards below 2 GiB. UMT5 has one tensor under two names, of
    which `places` asks for the last."""
    state = parts(found).state_dict()
    last = {tensor.data_ptr(): name for name, tensor in state.items()}
    kept = {f"{NAME}.{name}": tensor for name, tensor in state.items() if last[tensor.data_ptr()] == name}
    return write_shards(kept, out, NAME)
