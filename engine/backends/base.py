"""What a backend is: something that runs the roles of the step contract on numpy arrays.

A backend knows shapes and devices; it does not know sessions, time or prompts as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy.typing as npt

from engine.errors import BackendError, OutOfMemory
from engine.model.signature import ModelSpec

Arrays = Mapping[str, npt.NDArray[Any]]
SHORT = ("out of memory", "allocate memory", "not enough memory", "bad allocation", "bad_alloc")


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


def failure(role: str, error: Exception) -> BackendError:
    """A library's error in our words: OutOfMemory where a smaller batch may go through. Libraries have no
    type for it in common, and none that can be named without importing them."""
    said = f"{role}: {error}"
    short = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if short or any(words in said.lower() for words in SHORT):
        return OutOfMemory(said, field=role)
    return BackendError(said)
