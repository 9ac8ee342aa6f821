"""Start picture → SigLIP's tokens, which condition the transformer for the whole scene.

SigLIP's own preprocessing (feature_extractor/preprocessor_config.json) is done in torch, so it runs on the
device and in batches. It resizes to a square like Pillow (bicubic, first horizontally, then vertically,
rounding to whole levels after each) and then normalises. About one pixel in some thousands differs from
Pillow's by one level.

Legend: B batch, H W pixels, I image tokens (27 x 27 for SigLIP so400m at 384), E their width.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.companions.files import fetch, require
from engine.companions.libraries import first_line, library, load_pretrained
from engine.errors import ModelFilesError

KERNELS = {2: "bilinear", 3: "bicubic"}  # Pillow's numbering


@dataclass(frozen=True)
class Preprocessing:
    """The relevant settings of preprocessor_config.json."""

    size: tuple[int, int]  # height, width
    kernel: str
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def read(cls, folder: Path) -> Preprocessing:
        """Raises ModelFilesError for a missing or unsupported preprocessing configuration."""
        path = folder / "feature_extractor" / "preprocessor_config.json"
        try:
            about = json.loads(path.read_text(encoding="utf-8-sig"))
            rescale, normalize = (about.get(key, True) for key in ("do_rescale", "do_normalize"))
            if not about.get("do_resize", True):
                raise ValueError("do_resize is off")
            return cls(
                size=(int(about["size"]["height"]), int(about["size"]["width"])),
                kernel=KERNELS[about.get("resample", 3)],
                scale=float(about.get("rescale_factor", 1 / 255)) if rescale else 1.0,
                mean=_triple(about["image_mean"]) if normalize else (0.0, 0.0, 0.0),
                std=_triple(about["image_std"]) if normalize else (1.0, 1.0, 1.0),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise ModelFilesError(
                f"{path} is not SigLIP's preprocessing ({type(e).__name__}: {first_line(e)}); "
                f"fetch it again: {fetch('feature_extractor', folder)}",
                field="feature_extractor",
            ) from e

    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 → (B, 3, *size) fp32."""
        x = pixels.float()
        for size in ((x.shape[2], self.size[1]), self.size):
            x = F.interpolate(x, size, mode=self.kernel, antialias=True, align_corners=False)
            x = x.clamp(0, 255).round()
        mean, std = (pixels.new_tensor(v, dtype=torch.float32)[:, None, None] for v in (self.mean, self.std))
        return (x * self.scale - mean) / std


class ImageCompanion(nn.Module):
    """SigLIP's vision encoder, frozen."""

    def __init__(self, siglip: Any, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.siglip = siglip
        self.preprocessing = preprocessing
        config = siglip.config
        self.tokens: int = (config.image_size // config.patch_size) ** 2
        self.width: int = config.hidden_size

    @classmethod
    def load(cls, folder: Path, *, device: torch.device | str, dtype: torch.dtype) -> ImageCompanion:
        """Load from `folder` (see files.py). FramePack uses fp16.

        Raises ModelFilesError for files that are missing or don't fit, Unavailable without transformers."""
        require(folder, "image_encoder", "feature_extractor")
        vision = library("transformers").SiglipVisionModel
        siglip = load_pretrained(vision, folder, "image_encoder", device=device, dtype=dtype)
        preprocessing = Preprocessing.read(folder)
        if preprocessing.size != (siglip.config.image_size, siglip.config.image_size):
            raise ModelFilesError(
                f"{folder / 'feature_extractor'} resizes to {preprocessing.size}, but the encoder expects "
                f"{siglip.config.image_size} squared; fetch it again: {fetch('feature_extractor', folder)}",
                field="feature_extractor",
            )
        return cls(siglip, preprocessing)

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 → (B, I, E) fp32, SigLIP's last hidden state."""
        x = self.preprocessing(pixels).to(self.siglip.dtype)
        tokens: Tensor = self.siglip(pixel_values=x).last_hidden_state
        return tokens.float()


def _triple(values: Any) -> tuple[float, ...]:
    numbers = tuple(float(v) for v in values)
    if len(numbers) != 3:
        raise ValueError(f"{len(numbers)} numbers instead of 3")
    return numbers
