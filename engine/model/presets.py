"""The named models: one implementation, three sizes.

`wander` is the built-in world. `framepack-f1` is the public checkpoint's backbone to the last tensor, with
SemanticPack on it; `framepack-f0` is the same network with its predecessor's order of time, a baseline of the
paper. `memorypack-1b3` has the size that a data-centre GPU plays in real time; nobody has trained it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from engine.errors import InvalidInput
from engine.model.config import CameraConfig, HunyuanConfig, MemoryConfig, ModelConfig, PackingConfig


@dataclass(frozen=True)
class Preset:
    about: str
    config: ModelConfig
    fps: int
    steps: int
    sampler: Literal["euler", "unipc"] = "euler"
    shift: int = 1


def full_size(
    *,
    dim: int,
    heads: int,
    double: int,
    single: int,
    segment: int,
    window: tuple[int, int, int],
) -> ModelConfig:
    """HunyuanVideo's proportions at 480 x 832. Every choice within `memory` is ours, the paper has none."""
    return ModelConfig(
        latent_height=60,
        latent_width=104,
        segment=segment,
        dim=dim,
        heads=heads,
        double_blocks=double,
        single_blocks=single,
        rope_axes=(16, 56, 56),
        actions=("idle",),
        slots=(),
        prior_variance=0.0,
        packing=PackingConfig(anchor_cap=360, moves="video"),  # 360: the paper's minute at 24 fps
        memory=MemoryConfig(text_tokens=256, image_tokens=(27, 27), window=window, key_bias=-7.5),
        hunyuan=HunyuanConfig(),
    )


FRAMEPACK = full_size(dim=3072, heads=24, double=20, single=40, segment=9, window=(3, 5, 13))
PRESETS = {
    "wander": Preset(
        "the built-in world, real time on two CPU cores",
        ModelConfig(carry=True, camera=CameraConfig(), packing=PackingConfig(anchor_kernel="2x")),
        fps=16,
        steps=2,
    ),
    "memorypack-1b3": Preset(
        "480p in real time on one data-centre GPU; random weights until somebody trains it",
        full_size(dim=1536, heads=12, double=8, single=15, segment=3, window=(3, 5, 13)),
        fps=24,
        steps=4,
    ),
    "framepack-f1": Preset(
        "the public FramePack-F1 checkpoint with SemanticPack grafted on",
        FRAMEPACK,
        fps=30,
        steps=25,
        sampler="unipc",
        shift=7,
    ),
    "framepack-f0": Preset(
        "the first FramePack checkpoint, which makes a video of known length from its end to its start",
        replace(FRAMEPACK, packing=replace(FRAMEPACK.packing, order="f0")),
        fps=30,
        steps=25,
        sampler="unipc",
        shift=7,
    ),
}


def preset(name: str) -> Preset:
    """Raises InvalidInput for a name that there is not."""
    if name not in PRESETS:
        raise InvalidInput(f"no model {name!r}; known are {', '.join(PRESETS)}", field="model")
    return PRESETS[name]
