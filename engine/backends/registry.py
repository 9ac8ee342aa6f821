"""Backends by name. Imports an implementation only when it is asked for: serving never loads torch."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import cast

from engine.backends.base import Backend
from engine.errors import InvalidInput

MODULES = {  # each has load(path) -> Backend
    "onnxruntime": "engine.backends.ort",
    "reference": "engine.backends.reference",
    "fake": "engine.backends.fake",
}
DEFAULT_BACKEND = "onnxruntime"


def load_backend(name: str, path: Path | None = None) -> Backend:
    """`path` is the folder of the exported model; None means the one that comes with psistream.

    Raises InvalidInput for an unknown name, ModelFilesError for missing or corrupt files."""
    if name not in MODULES:
        raise InvalidInput(f"unknown backend {name!r}; choose one of {', '.join(MODULES)}", field="backend")
    return cast(Backend, importlib.import_module(MODULES[name]).load(path))
