"""The config.json of a converted Helios, as plain data. No weights are read here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from engine.errors import InvalidInput
from engine.model.config import build
from engine.model.converted import CONFIG, FORMAT, from_converted, read_converted
from engine.model.helios.config import HeliosConfig, PyramidConfig

NAME = "helios"
MOST_BORDER_FRAMES = 9  # the least segment has 9 frames


@dataclass(frozen=True)
class Serve:
    """How to play the model."""

    fps: int = 24  # the rate of its training videos; Wan 2.1's is 16
    decoder: Literal["taew", "vae"] = "taew"  # vae: Wan 2.1's own, which is slower and exact
    pyramid: PyramidConfig = field(default_factory=PyramidConfig)
    # speed, on a GPU; none of it has been run on one
    attention: Literal["sdpa", "flash3", "sage"] = "sdpa"  # engine.model.helios.kernels
    linears: Literal["bf16", "fp8"] = "bf16"  # of attention and feed-forward; the first and last blocks stay
    companions_on: str = ""  # a second device for text and frames, such as cuda:1; empty: the transformer's
    # options against what users complain about, all off
    border_frames: int = (
        0  # of every segment that are faded in from the one before (engine.model.helios.border)
    )
    anti_drift: float = 0.0  # share of a channel's drift that is taken back after every segment
    history_noise: float = 0.0  # on the history; training had up to 1/3, the public pipelines have none

    def __post_init__(self) -> None:
        """Raises InvalidInput."""
        if not 0 <= self.border_frames <= MOST_BORDER_FRAMES:
            raise InvalidInput(
                f"serve: border_frames is {self.border_frames}, must be 0 to {MOST_BORDER_FRAMES}",
                field="border_frames",
            )
        for name in ("anti_drift", "history_noise"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidInput(
                    f"serve: {name} is {getattr(self, name)}, must lie between 0 and 1", field=name
                )


@dataclass(frozen=True)
class Conversion:
    config: HeliosConfig = field(default_factory=HeliosConfig)
    serve: Serve = field(default_factory=Serve)

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, "preset": NAME, "config": asdict(self.config), "serve": asdict(self.serve)}


def is_helios(folder: Path) -> bool:
    """Whether config.json says so. False for a folder without one."""
    try:
        data = json.loads((folder / CONFIG).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(data, Mapping) and data.get("preset") == NAME


def read_conversion(folder: Path) -> Conversion:
    """Raises ModelFilesError if config.json is missing, or was not written by `psistream convert`."""
    return read_converted(folder, NAME, _conversion)


def read_about(data: Any, file: str) -> Conversion:
    """From JSON, which came from `file`: a config.json, or the `config` of a manifest. Raises
    ModelFilesError."""
    return from_converted(data, file, NAME, _conversion)


def _conversion(data: Any) -> Conversion:
    return Conversion(build(HeliosConfig, data["config"]), build(Serve, data["serve"], "serve"))
