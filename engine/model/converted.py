"""Reads the config.json that `psistream convert` writes, whatever the family."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from engine.errors import ModelFilesError
from engine.model.config import BAD_CONFIG

CONFIG = "config.json"
FORMAT = 1
T = TypeVar("T")


def read_converted(folder: Path, name: str, make: Callable[[Any], T]) -> T:
    """What `make` makes of the folder's config.json, for the model `name`. Raises ModelFilesError."""
    file = folder / CONFIG
    try:
        data = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ModelFilesError(
            f"{file} not found: --weights must name a folder made by `psistream convert {name}`",
            field="weights",
        ) from None
    except (OSError, *BAD_CONFIG) as e:
        raise _foreign(str(file), e) from e
    return from_converted(data, str(file), name, make)


def from_converted(data: Any, file: str, name: str, make: Callable[[Any], T]) -> T:
    """The same from JSON, which came from `file`: a config.json, or the `config` of a manifest."""
    try:
        version, preset = data["format"], data["preset"]
        found = make(data)
    except BAD_CONFIG as e:
        raise _foreign(file, e) from e
    if version != FORMAT or preset != name:
        raise ModelFilesError(
            f"{file} is format {version} of {preset!r}, needed is {FORMAT} of {name!r}; convert it again",
            field="weights",
        )
    return found


def _foreign(file: str, error: Exception) -> ModelFilesError:
    return ModelFilesError(f"{file} is not what `psistream convert` writes: {error}", field="weights")
