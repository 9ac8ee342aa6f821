"""Backends by name. An implementation is imported only when it is requested, so serving never loads torch."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import cast

from engine.backends.base import Backend
from engine.errors import InvalidInput, Unavailable
from engine.model.signature import ModelSpec

MODULES = {  # each has load(path) -> Backend
    "onnxruntime": "engine.backends.ort",
    "reference": "engine.backends.pytorch",
    "cuda": "engine.backends.gpu.cuda",
    "tensorrt": "engine.backends.gpu.tensorrt",
    "auto": "engine.backends.auto",  # the fastest available one of these
    "fake": "engine.backends.fake",
}
DEFAULT_BACKEND = "onnxruntime"
FULL_SIZE = "engine.backends.framepack"  # load(name, folder) -> Backend; runs in PyTorch
FAMILIES = {"helios": "engine.backends.helios"}  # the same for other families
BUILT_IN = "wander"


def load_backend(name: str, model: str | Path | None = None, weights: Path | None = None) -> Backend:
    """`model` is a name, or the folder of an exported model; None is the built-in model.
    `weights` is the folder of a full-size model; backends that cannot run it leave it to PyTorch.

    Raises InvalidInput for unknown names, ModelFilesError for missing or corrupt files,
    Unavailable for a library that is not installed."""
    if name not in MODULES:
        raise InvalidInput(f"unknown backend {name!r}; choose one of {', '.join(MODULES)}", field="backend")
    try:
        return _load(name, model, weights)
    except ModuleNotFoundError as error:
        extra = "torch" if weights is None else "full"
        raise Unavailable(
            f"the backend {name} needs {error.name}, which is not installed; "
            f"pip install 'psistream[{extra}]' has it",
            field="backend",
        ) from None


def check_model(name: str, model: str | Path | None, weights: Path | None) -> ModelSpec | None:
    """Check a model's files without loading it, full-size weights by their config.json only. Returns the
    shapes of a model that has told them. Raises InvalidInput, ModelFilesError."""
    files = importlib.import_module("engine.backends.artifact")  # by name, like backends
    if weights is not None:
        _check_weights(weights)
        if not (weights / files.MANIFEST).is_file():  # exported: its graphs say which model they are of
            converted = importlib.import_module("engine.model.converted")
            converted.read_converted(weights, str(model or ""), lambda data: None)
        return None
    if name == "fake":
        return load_backend(name, model).spec
    return cast(ModelSpec, files.open_artifact(_folder(model)).spec)


def _load(name: str, model: str | Path | None, weights: Path | None) -> Backend:
    if weights is not None:
        _check_weights(weights)
        module = importlib.import_module(MODULES[name])
        family = FAMILIES.get(str(model), FULL_SIZE)
        load_full = getattr(module, "load_full", None) or importlib.import_module(family).load
        return cast(Backend, load_full(str(model or ""), weights))
    return cast(Backend, importlib.import_module(MODULES[name]).load(_folder(model)))


def _check_weights(folder: Path) -> None:
    """Raises InvalidInput."""
    if not folder.is_dir():
        raise InvalidInput(f"--weights: {folder} is no folder; see docs/full-size.md", field="weights")


def _folder(model: str | Path | None) -> Path | None:
    """Of an exported model; None for the built-in one. Raises InvalidInput."""
    path = None if model in (None, BUILT_IN) else Path(str(model))
    if path is not None and not path.is_dir():
        raise InvalidInput(
            f"--model: {model} is neither a folder of `psistream export` nor {BUILT_IN!r}; "
            "a full-size model, such as helios or framepack-f1, needs --weights too",
            field="model",
        )
    return path
