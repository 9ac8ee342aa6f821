"""What a backend is: something that runs the roles of the step contract on numpy arrays.

A backend knows shapes and devices; it does not know sessions, time or prompts as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy.typing as npt

from engine.model.signature import ModelSpec

Arrays = Mapping[str, npt.NDArray[Any]]


class Backend(Protocol):
    """Pure functions with explicit state. Called from one thread only."""

    name: str
    spec: ModelSpec
    fingerprint: str  # of the weights: the same on every backend, another for another training

    def run(self, role: str, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Run `role` (engine.model.signature) on batched inputs. Raises BackendError."""
        ...

    def tokenize(self, text: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Text → ids (L,) int64 and mask (L,) float32, truncated to the model's length."""
        ...

    def close(self) -> None:
        """Free the device. Idempotent."""
        ...
