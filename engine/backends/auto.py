"""`auto`: the fastest backend that this machine and this model have.

One line in the log says which one and why not the others. A backend that is named explicitly never falls back
to another.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.backends.base import Backend
from engine.backends.gpu.driver import cuda_device
from engine.errors import PsistreamError, Unavailable
from engine.model.helios.serve import NAME as HELIOS

log = logging.getLogger(__name__)
ON_DEVICE = {"tensorrt": "engine.backends.gpu.tensorrt", "cuda": "engine.backends.gpu.cuda"}
ON_CPU = {"onnxruntime": "engine.backends.ort"}


def load(path: Path | None) -> Backend:
    """Raises what the last candidate raises."""
    return first(ON_DEVICE, ON_CPU, lambda module: module.load(path))


def load_full(name: str, folder: Path) -> Backend:
    family = "engine.backends.helios" if name == HELIOS else "engine.backends.framepack"
    return first(ON_DEVICE, {"pytorch": family}, lambda module: _full(module, name, folder))


def _full(module: Any, name: str, folder: Path) -> Backend:
    loaded: Backend = getattr(module, "load_full", module.load)(name, folder)
    return loaded


def first(on_device: dict[str, str], on_cpu: dict[str, str], load_from: Callable[[Any], Backend]) -> Backend:
    """The first backend that loads. Without a device, backends that need one are not even imported."""
    reasons: list[str] = []
    try:
        cuda_device()
    except Unavailable as e:
        reasons.append(f"{' and '.join(on_device)}: {e.message}")
    else:
        for name, module in on_device.items():
            try:
                found = load_from(importlib.import_module(module))
            except (PsistreamError, ModuleNotFoundError) as e:
                reasons.append(f"{name}: {e}")
            else:
                _tell(found.name, reasons)
                return found
    (name, module), *_ = on_cpu.items()
    found = load_from(importlib.import_module(module))
    _tell(found.name, reasons)
    return found


def _tell(name: str, reasons: list[str]) -> None:
    log.warning("backend: %s%s", name, "".join(f"; not {reason}" for reason in reasons))
