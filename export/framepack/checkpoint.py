"""FramePack's public checkpoints: their config.json → our configuration.

Strict: an unknown key is an error and is never dropped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from engine.errors import InvalidInput, ModelFilesError
from engine.model.config import HunyuanConfig, ModelConfig
from engine.model.dit import EXTRA
from engine.model.framepack.transformer import FramePackDiT

CLASSES = ("HunyuanVideoTransformer3DModelPacked", "HunyuanVideoFramepackTransformer3DModel")
BOOKKEEPING = ("_class_name", "_diffusers_version", "_name_or_path")
SIZES: dict[str, Any] = {  # with the values of the public checkpoints, for missing keys
    "in_channels": 16,
    "num_attention_heads": 24,
    "attention_head_dim": 128,
    "num_layers": 20,
    "num_single_layers": 40,
    "num_refiner_layers": 2,
    "text_embed_dim": 4096,
    "pooled_projection_dim": 768,
    "image_proj_dim": 1152,
    "rope_theta": 256.0,
    "rope_axes_dim": [16, 56, 56],
}
FIXED: dict[str, Any] = {  # the only values that our modules support; also the defaults for missing keys
    "out_channels": 16,
    "patch_size": 2,
    "patch_size_t": 1,
    "mlp_ratio": 4.0,
    "qk_norm": "rms_norm",
    "guidance_embeds": True,
    "image_condition_type": None,
    "has_image_proj": True,
    "has_clean_x_embedder": True,
}
OFF = {"has_image_proj": False, "has_clean_x_embedder": False}  # defaults that differ from FIXED


def read_config(folder: Path, base: ModelConfig) -> ModelConfig:
    """`base` with the sizes in the folder's config.json.

    Raises ModelFilesError for a missing file, and for values that describe a network that we cannot build."""
    file = folder / "config.json"
    try:
        data = json.loads(file.read_text(encoding="utf-8-sig"))
        if not isinstance(data, Mapping):
            raise ValueError("not an object")
    except FileNotFoundError:
        raise ModelFilesError(
            f"{file} not found: DIR must be the folder of a FramePack checkpoint, as downloaded",
            field="DIR",
        ) from None
    except (OSError, ValueError) as e:
        raise ModelFilesError(f"{file} cannot be read: {e}", field="config.json") from e
    wrong = [
        f"{key} is unknown and may change the network"
        for key in data
        if key not in (*BOOKKEEPING, *SIZES, *FIXED)
    ]
    if data.get("_class_name", CLASSES[0]) not in CLASSES:
        wrong.append(f"_class_name is {data['_class_name']!r}, but must be {' or '.join(CLASSES)}")
    sizes = {key: data.get(key, value) for key, value in SIZES.items()}
    wrong += [
        f"{key} is {sizes[key]!r}, but must be {_kind(value)}"
        for key, value in SIZES.items()
        if not _like(sizes[key], value)
    ]
    for key, value in FIXED.items():
        value = sizes["in_channels"] if key == "out_channels" else value
        found = data.get(key, OFF.get(key, value))
        if found != value:
            wrong.append(f"{key} is {found!r}, but must be {value!r}")
    if wrong:
        raise ModelFilesError(
            f"{file} does not describe a network that psistream builds:\n  " + "\n  ".join(wrong),
            field="config.json",
        )
    try:
        return replace(
            base,
            channels=sizes["in_channels"],
            dim=sizes["num_attention_heads"] * sizes["attention_head_dim"],
            heads=sizes["num_attention_heads"],
            double_blocks=sizes["num_layers"],
            single_blocks=sizes["num_single_layers"],
            rope_theta=float(sizes["rope_theta"]),
            rope_axes=tuple(sizes["rope_axes_dim"]),
            hunyuan=HunyuanConfig(
                text_dim=sizes["text_embed_dim"],
                pooled_dim=sizes["pooled_projection_dim"],
                image_dim=sizes["image_proj_dim"],
                refiner_layers=sizes["num_refiner_layers"],
            ),
        )
    except InvalidInput as e:
        raise ModelFilesError(f"{file}: {e.message}", field="config.json") from e


def _like(value: object, example: object) -> bool:
    if isinstance(example, list):
        return (
            isinstance(value, list)
            and len(value) == len(example)
            and all(_like(v, e) for v, e in zip(value, example, strict=True))
        )
    kinds = (int, float) if isinstance(example, float) else (int,)
    return isinstance(value, kinds) and not isinstance(value, bool) and value > 0


def _kind(example: object) -> str:
    if isinstance(example, list):
        return f"{len(example)} whole numbers"
    return "a number above 0" if isinstance(example, float) else "a whole number above 0"


def tensors_of(c: ModelConfig) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """Names and shapes of our DiT's tensors: the backbone's, and the added ones."""
    with torch.device("meta"):
        shapes = {n: tuple(p.shape) for n, p in FramePackDiT(c).named_parameters()}
    added = {n: s for n, s in shapes.items() if n.split(".")[0] in EXTRA}
    return {n: s for n, s in shapes.items() if n not in added}, added
