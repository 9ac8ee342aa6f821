"""The config.json of a converted Helios, as plain data. No weights are read here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from engine.errors import ModelFilesError
from engine.model.config import BAD_CONFIG, build
from engine.model.helios.config import HeliosConfig, PyramidConfig

NAME = "helios"
CONFIG = "config.json"
FORMAT = 1


@dataclass(frozen=True)
class Serve:
    """How to play the model."""

    fps: int = 24  # the rate of its training videos; Wan 2.1's is 16
    decoder: Literal["taew", "vae"] = "taew"  # vae: Wan 2.1's own, which is slower and exact
    pyramid: PyramidConfig = field(default_factory=PyramidConfig)


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
    file = folder / CONFIG
    try:
        data = json.loads(file.read_text(encoding="utf-8-sig"))
        version, preset = data["format"], data["preset"]
        found = Conversion(build(HeliosConfig, data["config"]), build(Serve, data["serve"], "serve"))
    except FileNotFoundError:
        raise ModelFilesError(
            f"{file} not found: --weights must name a folder made by `psistream convert {NAME}`",
            field="weights",
        ) from None
    except (OSError, *BAD_CONFIG) as e:
        raise ModelFilesError(f"{file} is not what `psistream convert` writes: {e}", field="weights") from e
    if version != FORMAT or preset != NAME:
        raise ModelFilesError(
            f"{file} is format {version} of {preset!r}, needed is {FORMAT} of {NAME!r}; convert it again",
            field="weights",
        )
    return found
