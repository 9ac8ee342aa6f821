"""Configurations of the model: frozen dataclasses, one above each module it configures, unknown keys are
refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from engine.errors import InvalidInput

T = TypeVar("T")


@dataclass(frozen=True)
class PackingConfig:
    """FramePack-F1's context: which history is kept, at which compression (research: arXiv 2504.12626)."""

    history: tuple[int, int, int] = (16, 2, 1)  # frames at 4x, 2x, 1x, oldest first
    anchor_kernel: str = "1x"  # F1: the start frame at full detail; "2x" costs a quarter of the tokens
    anchor_cap: int = 64  # RoPE consistency: the anchor's distance grows no further than this many latents


@dataclass(frozen=True)
class MemoryConfig:
    """SemanticPack (arXiv 2510.01784, Eq. 2). The paper names neither depth nor window nor token count."""

    text_tokens: int = 6
    image_tokens: tuple[int, int] = (2, 5)  # rows, columns: the anchor is cut into that many pieces
    layers: int = 1
    window: tuple[int, int, int] = (2, 6, 5)  # frames, rows, columns of tokens that attend to each other

    @property
    def tokens(self) -> int:
        return self.text_tokens + self.image_tokens[0] * self.image_tokens[1]


@dataclass(frozen=True)
class ModelConfig:
    """The MemoryPack DiT. Defaults are the built-in world's `wander`."""

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
    rope_axes: tuple[int, int, int] = (8, 12, 12)  # time, height, width; sums to the head's width
    actions: tuple[str, ...] = ("idle", "left", "right", "jump")
    slots: tuple[int, ...] = (9, 5, 5, 7, 9, 5)  # classes per attribute of a prompt, 0 is "unsaid"
    prior_variance: float = 0.5  # preconditioning around the last clean latent; 0 turns it off
    shift_cells: tuple[int, ...] = (0, 2, 1)  # camera motion of one step, latent cells, per parallax layer
    packing: PackingConfig = field(default_factory=PackingConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads


def build(cls: type[T], data: Mapping[str, Any], where: str = "config") -> T:
    """Dataclass from plain data (TOML, JSON). Raises InvalidInput for an unknown key."""
    hints = get_type_hints(cls)
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    for key in data:
        if key not in known:
            raise InvalidInput(f"{where}: unknown key {key!r}; known are {sorted(known)}", field=key)

    def value(key: str, v: Any) -> Any:
        if is_dataclass(hints[key]) and isinstance(v, Mapping):
            return build(hints[key], v, f"{where}.{key}")
        return tuple(v) if isinstance(v, list) else v

    return cls(**{k: value(k, v) for k, v in data.items()})
