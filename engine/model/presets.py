"""The named models: one architecture in three sizes.

`wander` is the built-in model. `framepack-f1` has every tensor of the public checkpoint's backbone, plus
SemanticPack. `framepack-f0` is the same network with the order of time of its predecessor, which is a
baseline of the paper. `memorypack-1b3` is as large as a data-centre GPU can play in real time; it has not
been trained.
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
    """HunyuanVideo's proportions at 480 x 832. All values in `memory` are ours, since the paper gives
    none."""
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
        ModelConfig(carry=True, camera=CameraConfig(loop=160), packing=PackingConfig(anchor_kernel="2x")),
        fps=16,
        steps=2,
    ),
    "memorypack-1b3": Preset(
        "480p in real time on one data-centre GPU; not trained yet, so its weights are random",
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
        "the first FramePack checkpoint, which generates a video of known length from its end to its start",
        replace(FRAMEPACK, packing=replace(FRAMEPACK.packing, order="f0")),
        fps=30,
        steps=25,
        sampler="unipc",
        shift=7,
    ),
}


def preset(name: str) -> Preset:
    """Raises InvalidInput for an unknown name."""
    if name not in PRESETS:
        raise InvalidInput(f"no model {name!r}; known are {', '.join(PRESETS)}", field="model")
    return PRESETS[name]
