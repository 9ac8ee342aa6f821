"""Configuration of the model as frozen dataclasses. Unknown keys are refused. engine.model.presets names the
configurations that are in use."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from engine.errors import InvalidInput
from engine.model.spec_values import BEYOND, is_kind

T = TypeVar("T")
MOST_LAYERS = 1024
MOST_LATENTS = 2**24  # cells of a session's history and segment; above it even their positions take minutes
# what impossible values raise, here or where a model is made of them
BAD_CONFIG = (InvalidInput, ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class PackingConfig:
    """Which history is kept, how it is compressed, and its time indices (FramePack, arXiv 2504.12626).

    With `order` "f1" the history precedes the segment. "f0" is inverted anti-drifting: the last segment is
    made first and the history follows it. The segment's number then counts the segments that are still to be
    made before it. A sliding window of n latents is `history=(0, 0, n), anchor_kernel="none"`."""

    MOST: ClassVar = 2**14  # of any size
    order: Literal["f1", "f0"] = "f1"
    history: tuple[int, int, int] = (16, 2, 1)  # frames at 4x, 2x, 1x, farthest first
    anchor_kernel: Literal["1x", "2x", "none"] = "1x"  # 1x: as in checkpoints; 2x: a quarter of the tokens
    rope_consistency: bool = True  # the anchor keeps index 0 of the whole video,
    anchor_cap: int = 64  # and its distance is limited to this many latents
    moves: Literal["anchor", "video"] = "anchor"  # whose index changes; the paper and F0: the video's


@dataclass(frozen=True)
class MemoryConfig:
    """SemanticPack (arXiv 2510.01784, Eq. 2). The paper does not give depth, window and number of tokens."""

    MOST: ClassVar = 2**14  # of any size
    structure: Literal["A", "B", "C"] = "A"  # A: Q from the segment, K and V from ψ; see Squeeze
    start: Literal["features", "zero"] = "features"  # ψ₀ = [text; image], or zeros
    text_tokens: int = 6
    image_tokens: tuple[int, int] = (2, 5)  # rows and columns of pieces that the anchor is cut into
    layers: int = 1
    window: tuple[int, int, int] = (2, 6, 5)  # frames, rows and columns of tokens that attend to each other
    key_bias: float | None = None  # initial value of a learned bias on ψ's attention logits; None: no bias

    @property
    def tokens(self) -> int:
        return self.text_tokens + self.image_tokens[0] * self.image_tokens[1]


@dataclass(frozen=True)
class HunyuanConfig:
    """Conditions of the public checkpoints: LLaMA tokens through a refiner, CLIP, SigLIP, guidance."""

    MOST: ClassVar = 2**14  # of any size
    text_dim: int = 4096
    pooled_dim: int = 768
    image_dim: int = 1152
    refiner_layers: int = 2
    guidance: float = 10.0  # distilled: an input of the network instead of a second pass


KINDS, COLOURS = 8, 8  # of landmarks
PLAN = KINDS + COLOURS + 3  # numbers per column in a plan, see engine.model.wander.hints


@dataclass(frozen=True)
class CameraConfig:
    """Geometry of a world whose camera is known, for hints and structure W (engine.model.wander)."""

    MOST: ClassVar = 2**14  # of any size
    layer_steps: tuple[int, ...] = (1, 1, 0)  # columns of its grid by which a layer moves per camera step
    layer_grid: tuple[int, ...] = (1, 2, 1)  # grid columns in a latent cell: near, middle, far
    columns: int = 320  # kept of each layer that moves
    still: int = 20  # kept of each layer that stands still: one picture's
    places: bool = True  # structure W; without it no view is kept, and its hints stay empty
    hero: tuple[int, int] = (8, 12)  # range of latent columns that the hero hides
    hero_px: int = 80  # screen column whose position in the world the odometer counts
    cell_px: int = 8
    loop: int = 0  # columns after which a layer's scenery repeats, if the model knows it by heart; 0: none
    landmarks: int = 48  # landmarks in a plan
    landmark_kinds: tuple[str, ...] = ("tree", "house", "tower", "windmill", "rock", "lamp", "sign", "statue")
    landmark_colours: tuple[str, ...] = (
        "red", "orange", "yellow", "green", "blue", "purple", "white", "black",
    )  # fmt: skip
    landmark_spacing_px: int = 107
    landmark_jitter_px: int = 12

    @property
    def rings(self) -> tuple[int, ...]:
        """Number of columns kept of each layer."""
        return tuple(self.columns if s else self.still for s in self.layer_steps)

    @property
    def scenery(self) -> int:
        """Rows of the table of scenery, one per column of each layer's grid."""
        steps = zip(self.layer_steps, self.layer_grid, strict=True)
        return self.loop * sum(grid for step, grid in steps if step)

    @property
    def candidates(self) -> int:
        """Number of pictures among the hints: the last latent, the same phase, and a place per layer."""
        return 2 + sum(s > 0 for s in self.layer_steps) + len(self.layer_steps)

    def hints(self, channels: int) -> int:
        """Number of channels of the hints."""
        return self.candidates * channels + 3 * len(self.layer_steps) + PLAN


@dataclass(frozen=True)
class ModelConfig:
    """The MemoryPack DiT. The defaults are those of the built-in model, `wander`."""

    MOST: ClassVar = 2**14  # of any size
    channels: int = 16
    latent_height: int = 12
    latent_width: int = 20
    segment: int = 2  # W, latent frames denoised together
    dim: int = 192
    heads: int = 6
    double_blocks: int = 2
    single_blocks: int = 4
    mlp_ratio: int = 4
    rope_theta: float = 256.0
    rope_axes: tuple[int, int, int] = (8, 12, 12)  # time, height, width; they sum to the head's width
    actions: tuple[str, ...] = ("idle", "left", "right", "jump")
    slots: tuple[int, ...] = (9, 5, 5, 7, 9, 5)  # classes per attribute of a prompt; class 0 is "unsaid"
    prior_variance: float = 0.5  # preconditioning around the last clean latent; 0 turns it off
    camera: CameraConfig | None = None  # None: the camera is unknown
    carry: bool = False  # cells may take over a hint; needs prior_variance and camera
    packing: PackingConfig = field(default_factory=PackingConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    hunyuan: HunyuanConfig | None = None  # None: attribute slots, for the built-in model

    def __post_init__(self) -> None:
        """Raises InvalidInput for values that do not fit together."""
        for name in ("channels", "latent_height", "latent_width", "segment", "dim", "heads", "mlp_ratio"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"config: {name} must be at least 1", field=name)
        frames = sum(self.packing.history) + self.segment
        if frames * self.latent_height * self.latent_width > MOST_LATENTS:
            raise InvalidInput(f"config: history and segment exceed {MOST_LATENTS} cells", field="history")
        if self.camera is not None and self.packing.order != "f1":
            raise InvalidInput("config: a camera wants packing.order = 'f1'", field="camera")
        if self.carry and not (self.prior_variance and self.camera):
            raise InvalidInput("config: carry wants prior_variance and a camera", field="carry")
        if self.dim % self.heads or sum(self.rope_axes) != self.dim // self.heads:
            raise InvalidInput(
                f"config: rope_axes {self.rope_axes} must sum to dim / heads = {self.dim / self.heads:g}",
                field="rope_axes",
            )
        grid = (self.segment, self.latent_height // 2, self.latent_width // 2)
        if any(n % w for n, w in zip(grid, self.memory.window, strict=True)):
            raise InvalidInput(
                f"config: memory.window {self.memory.window} must divide the segment's tokens {grid}",
                field="window",
            )

    @property
    def hint_channels(self) -> int:
        """Channels beside the noise of each cell: all hints, only the last latent, or none."""
        if self.camera is not None:
            return self.camera.hints(self.channels)
        return self.channels if self.prior_variance else 0

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @property
    def text_dim(self) -> int:
        return self.hunyuan.text_dim if self.hunyuan else self.dim

    @property
    def pooled_dim(self) -> int:
        return self.hunyuan.pooled_dim if self.hunyuan else len(self.slots) * self.dim


def build(cls: type[T], data: Mapping[str, Any], where: str = "config") -> T:
    """A dataclass from plain data (TOML, JSON). `false` turns an optional part off, since TOML has no null.
    Raises InvalidInput for an unknown key or choice, for a value of the wrong kind, and for a number above
    the dataclass's MOST."""
    hints = get_type_hints(cls)
    told = {f.name: f.type for f in fields(cls)}  # type: ignore[arg-type]
    for key in data:
        if key not in told:
            raise InvalidInput(
                f"{where}: unknown key {key!r:.80}; known are {', '.join(sorted(told))}", field=key
            )

    def value(key: str, v: Any) -> Any:
        inner = _nested(hints[key])
        if inner is not None and v is False:
            return None
        if inner is not None and isinstance(v, Mapping):
            return build(inner, v, f"{where}.{key}")
        if get_origin(hints[key]) is Literal and v not in get_args(hints[key]):
            choices = ", ".join(map(repr, get_args(hints[key])))
            raise InvalidInput(f"{where}: {key} is {v!r:.80}, must be one of {choices}", field=key)
        if not is_kind(hints[key], v) or (key.endswith(("blocks", "layers")) and not 0 <= v <= MOST_LAYERS):
            raise InvalidInput(f"{where}: {key} is {v!r:.80}, must be {told[key]} and in reason", field=key)
        sizes = [n for n in (v if isinstance(v, list | tuple) else [v]) if isinstance(n, int)]
        if max(sizes, default=0) > (most := getattr(cls, "MOST", BEYOND)):
            raise InvalidInput(f"{where}: {key} is {v!r:.80}, must be at most {most}", field=key)
        return tuple(v) if isinstance(v, list) else v

    return cls(**{k: value(k, v) for k, v in data.items()})


def _nested(hint: Any) -> Any:
    """The dataclass that the type hint `hint` is or allows, or None."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return next((o for o in options if is_dataclass(o)), None)
