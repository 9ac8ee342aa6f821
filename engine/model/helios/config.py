"""Configuration of Helios (arXiv 2603.04379). The defaults are the public checkpoint's, Helios-Distilled.

Sizes that the public code fixes are fields here too, so that small networks of the same kind can be built.
Source: `HeliosTransformer3DModel` of diffusers 0.42 and its defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from engine.errors import InvalidInput
from engine.model.config import MemoryConfig, ModelConfig, PackingConfig

PIXELS = 64  # sides of a picture are multiples of it: three stages of factor two, 2 x 2 patches, 8 x 8 cells
CELL = 8  # pixels per latent cell
STAGES = 3
FREQUENCIES = 256  # of the sinusoidal embedding of a timestep


@dataclass(frozen=True)
class PyramidConfig:
    """How a segment is sampled: the number of calls at a quarter, a half and the whole of the latent's sides.

    `shift_by` chooses the stage whose number of tokens determines a stage's timestep shift. "previous" is the
    stage before (for the first stage, its own). diffusers and the authors' diffusers code use it, since they
    set the schedule before up-sampling. "own" is the stage itself, as in the authors' training and research
    code. With one call per stage the two are equal. It is not published which gives better pictures."""

    steps: tuple[int, int, int] = (2, 2, 2)
    first_factor: int = 2  # a scene's first segment takes this many times the calls, as in distillation
    shift_by: Literal["previous", "own"] = "previous"

    def __post_init__(self) -> None:
        """Raises InvalidInput if a stage has no calls."""
        if min(*self.steps, self.first_factor) < 1:
            raise InvalidInput(
                f"pyramid: steps {self.steps} and first_factor {self.first_factor} must be 1 or more",
                field="steps",
            )


@dataclass(frozen=True)
class HeliosConfig:
    MOST: ClassVar = 2**16  # of any size
    latent_height: int = 48
    latent_width: int = 80
    channels: int = 16
    segment: int = 9  # W, latent frames denoised together
    history: tuple[int, int, int] = (16, 2, 1)  # frames at 4x, 2x, 1x, farthest first
    heads: int = 40
    head_dim: int = 128
    layers: int = 40
    feed_forward: int = 13824
    text_tokens: int = 512
    text_dim: int = 4096
    rope_axes: tuple[int, int, int] = (44, 42, 42)  # time, height, width
    rope_theta: float = 10000.0
    memory: MemoryConfig | None = None  # SemanticPack; None: the unchanged checkpoint

    def __post_init__(self) -> None:
        """Raises InvalidInput for sizes that do not fit together."""
        least = PIXELS // CELL
        for name in ("latent_height", "latent_width"):
            side = getattr(self, name)
            if side < least or side % least:
                raise InvalidInput(
                    f"config: {name} is {side} cells of {CELL} pixels, must be a multiple of {least}: a "
                    f"picture's sides are multiples of {PIXELS} pixels",
                    field=name,
                )
        if sum(self.rope_axes) != self.head_dim:
            raise InvalidInput(
                f"config: rope_axes {self.rope_axes} must sum to head_dim = {self.head_dim}",
                field="rope_axes",
            )

    @property
    def dim(self) -> int:
        return self.heads * self.head_dim

    @property
    def frames(self) -> int:
        """Pixel frames of a segment. Its first latent is a single frame, as in all clips for Wan's
        autoencoder."""
        return 4 * self.segment - 3

    @property
    def packing(self) -> PackingConfig:
        """FramePack-F1's, with the same time indices in every segment."""
        return PackingConfig(history=self.history, rope_consistency=False)

    def stage_size(self, stage: int) -> tuple[int, int]:
        """Height and width of the latents in stage 0, 1 or 2."""
        by = 2 ** (STAGES - 1 - stage)
        return self.latent_height // by, self.latent_width // by

    def shared(self, memory: MemoryConfig) -> ModelConfig:
        """This network's sizes, as SemanticPack's modules take them."""
        return ModelConfig(
            channels=self.channels,
            latent_height=self.latent_height,
            latent_width=self.latent_width,
            segment=self.segment,
            dim=self.dim,
            heads=self.heads,
            rope_axes=self.rope_axes,
            slots=(),
            prior_variance=0.0,
            packing=self.packing,
            memory=memory,
        )
