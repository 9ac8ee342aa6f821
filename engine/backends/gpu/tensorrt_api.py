"""One interface to `tensorrt` (10.15 and later, 11) and `tensorrt_rtx`: the same Python API in another
module, with other features. Imported only on request. Creating a Runtime without a device kills the process,
so ask engine.backends.gpu.driver first.
"""

from __future__ import annotations

import importlib
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from engine.errors import InvalidInput, Unavailable

INSTALL = {"tensorrt": "pip install 'psistream[gpu]'", "tensorrt_rtx": "pip install 'psistream[rtx]'"}
OLDEST = {"tensorrt": (10, 15), "tensorrt_rtx": (1, 4)}


@dataclass(frozen=True)
class Api:
    """`trt` is the module: its own types are not known to a type checker."""

    name: str
    version: str
    trt: Any

    @property
    def rtx(self) -> bool:
        return self.name == "tensorrt_rtx"

    def capability(self, target: str) -> Any | None:
        """The enum's member for `sm89`. None if the library has none and builds for the present device."""
        known = getattr(self.trt, "ComputeCapability", None)
        return None if known is None else known.__members__.get(target.upper())


def load_api(name: str | None = None) -> Api:
    """The named library, or the first installed one of `tensorrt` and `tensorrt_rtx`.

    Raises InvalidInput for an unknown name, Unavailable if it is not installed or too old."""
    if name is not None and name not in INSTALL:
        raise InvalidInput(f"unknown library {name!r}; choose one of {', '.join(INSTALL)}", field="backend")
    said = []
    for each in [name] if name else list(INSTALL):
        try:
            module = importlib.import_module(each)
        except ImportError as e:  # also where its libraries lack
            said.append(f"{each} cannot be imported ({e}): {INSTALL[each]}")
            continue
        version = str(module.__version__)
        if numbers(version) < OLDEST[each]:
            least = ".".join(map(str, OLDEST[each]))
            said.append(f"{each} {version} is too old, {least} is needed: {INSTALL[each]}")
            continue
        return Api(each, version, module)
    raise Unavailable("; ".join(said), field="backend")


def installed() -> list[Api]:
    """All installed libraries, `tensorrt` first. Raises Unavailable if there is none."""
    found = []
    for name in INSTALL:
        with suppress(Unavailable):
            found.append(load_api(name))
    return found or [load_api()]


def numbers(version: str) -> tuple[int, ...]:
    """ "10.15.1.post1" → (10, 15, 1)."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found.group().split("."))) if found else ()
