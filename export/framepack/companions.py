"""Exports the companions of the full-size transformer as graphs: LLaMA and CLIP, SigLIP with the
autoencoder's encoder, TAEHV.

Their weights come from several repositories, in files with their own names and types, one of them a pickle.
So they are written again beside the transformer's shards, in fp16 as in FramePack, under the graphs' names.
HunyuanVideo's own decoder is not exported, since it works differently at the start of a scene.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.backends.framepack import fits
from engine.companions.image import ImageCompanion, Preprocessing
from engine.companions.vae import Vae
from engine.model.config import ModelConfig
from engine.model.framepack.roles import Companions, Decode, EncodeImage, EncodeText, Serve
from engine.model.framepack.transformer import FramePackDiT
from export.weights import write_shards

ROLES = ("encode_text", "encode_image", "decode")
NAME = "companions"  # of the files, and the prefix of all tensor names in them
TAEHV_WIDTHS = (256, 128, 64, 64)
PUBLIC: dict[str, dict[str, Any]] = {  # the settings of the public config.json files that determine shapes
    "llama": {
        "vocab_size": 128320,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "attn_implementation": "eager",  # the default reads the mask's values, which do not exist here
    },
    "clip": {
        "vocab_size": 49408,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "eos_token_id": 2,
    },
    "siglip": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 384,
        "patch_size": 14,
    },
}


def precision(wanted: str) -> str:
    """The companions' precision when the transformer's is `wanted`. bf16 pictures show bands, so FramePack
    uses fp16."""
    return "fp32" if wanted == "fp32" else "fp16"


def lacking(folder: Path, serve: Serve) -> list[str]:
    """The companions whose files `folder` lacks."""
    from engine.companions.files import PARTS, missing

    parts = [p for p in PARTS if p != "transformer" and (p != "taehv" or serve.decoder == "taehv")]
    return [part for part in parts if missing(folder, part)]


def load(folder: Path, config: ModelConfig, serve: Serve) -> Companions:
    """Load the companions in fp16 on the CPU. Raises ModelFilesError, and Unavailable without transformers
    and diffusers."""
    from engine.companions.load import load_companions

    found: Companions = load_companions(
        folder,
        decoder=serve.decoder,
        segment=config.segment,
        device=torch.device("cpu"),
        dtype=torch.float16,
    )
    fits(config, found)
    encoder, image = found.encoder, found.image
    assert isinstance(encoder, Vae) and isinstance(image, ImageCompanion)  # noqa: PT018
    encoder.model.disable_slicing()  # slicing saves memory, but graphs have no loops
    resize: Any = FixedResize(image.preprocessing, serve.height, serve.width)
    image.preprocessing = resize
    return found


class FixedResize(nn.Module):
    """SigLIP's preprocessing for pictures of one size as two matrix products, since engines cannot resample
    with antialiasing. The matrices are torch's resampling of unit pictures."""

    across: Tensor  # (W, w)
    down: Tensor  # (h, H)

    def __init__(self, like: Preprocessing, height: int, width: int) -> None:
        super().__init__()
        self.like = like
        self.register_buffer("across", resampling(width, like.size[1], like.kernel), persistent=False)
        self.register_buffer("down", resampling(height, like.size[0], like.kernel).T, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 → (B, 3, *size) fp32."""
        x = pixels.float()
        x = (x @ self.across).clamp(0, 255).round()
        x = (self.down @ x).clamp(0, 255).round()
        mean, std = (x.new_tensor(v)[:, None, None] for v in (self.like.mean, self.like.std))
        return (x * self.like.scale - mean) / std


def resampling(pixels: int, size: int, kernel: str) -> Tensor:
    """The resampling matrix (pixels, size) of a line."""
    unit = torch.eye(pixels)[None, None]
    made = F.interpolate(unit, (pixels, size), mode=kernel, antialias=True, align_corners=False)
    return made[0, 0].contiguous()


def parts(companions: Companions) -> nn.ModuleDict:
    """All companions, under the names with which their weights are stored."""
    found = {
        "text": companions.text,
        "image": companions.image,
        "vae": companions.encoder,
        "decoder": companions.decoder,
    }
    if getattr(companions.decoder, "vae", None) is companions.encoder:
        del found["decoder"]  # it shares the encoder's weights
    return nn.ModuleDict({name: module for name, module in found.items() if isinstance(module, nn.Module)})


def roles_of(dit: FramePackDiT, companions: Companions, serve: Serve) -> dict[str, nn.Module]:
    """The roles that the companions run, as modules."""
    modules: dict[str, nn.Module] = {
        "encode_text": EncodeText(companions.text),
        "encode_image": EncodeImage(companions, dit),
    }
    if serve.decoder == "taehv":
        modules["decode"] = Decode(companions.decoder)
    return modules


def write_weights(companions: Companions, out: Path) -> list[Path]:
    """Write the weights once for all graphs, in shards below 2 GiB."""
    state = {f"{NAME}.{name}": tensor for name, tensor in parts(companions).state_dict().items()}
    return write_shards(state, out, NAME)


def hollow_companions(config: ModelConfig, serve: Serve) -> Companions:
    """The public companions' networks on the meta device, built from their public configurations: shapes
    without weights. Raises Unavailable without transformers and diffusers."""
    from engine.companions.libraries import library
    from engine.companions.prompt import TEXT_TOKENS
    from engine.companions.sizes import TEMPLATE, TEXT_LENGTH
    from engine.companions.taehv import TinyDecoder
    from engine.companions.text import SKIPPED_LAYERS, LlamaClipText
    from engine.companions.vae_stream import VaeDecoder

    transformers, diffusers = library("transformers"), library("diffusers")
    size = PUBLIC["siglip"]["image_size"]
    with torch.device("meta"):
        public = {
            **PUBLIC["llama"],
            "num_hidden_layers": PUBLIC["llama"]["num_hidden_layers"] - SKIPPED_LAYERS,
        }
        llama = transformers.LlamaModel(transformers.LlamaConfig(**public))
        llama.norm = nn.Identity()
        clip = transformers.CLIPTextModel(transformers.CLIPTextConfig(**PUBLIC["clip"]))
        siglip = transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**PUBLIC["siglip"]))
        vae = Vae(diffusers.AutoencoderKLHunyuanVideo())
        tiny = TinyDecoder(TAEHV_WIDTHS)
    ids: Any = SimpleNamespace(length=TEXT_LENGTH, crop=TEMPLATE, llama_length=TEMPLATE + TEXT_TOKENS)
    picture = Preprocessing((size, size), "bicubic", 1 / 255, (0.5,) * 3, (0.5,) * 3)
    late = VaeDecoder(vae, segment=config.segment, late=False)
    return Companions(
        text=LlamaClipText(llama, clip, ids),
        image=ImageCompanion(siglip, picture),
        encoder=vae,
        decoder=tiny if serve.decoder == "taehv" else late,
    )
