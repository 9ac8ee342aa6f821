"""The interface of backends: they run the roles of the step contract on numpy arrays.

A backend knows shapes and devices. Sessions and time are unknown to it, and prompts are only text to
tokenize.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy.typing as npt

from engine.errors import BackendError, OutOfMemory
from engine.model.signature import ModelSpec
from engine.types import FloatArray

Arrays = Mapping[str, npt.NDArray[Any]]
SHORT = ("out of memory", "allocate memory", "not enough memory", "bad allocation", "bad_alloc")


class Sampler(Protocol):
    """Takes one draft from noise to a clean segment. One of higher order remembers its last steps, so each
    draft has its own. Legend: K steps; x and velocities (B, W, C, h, w)."""

    @property
    def times(self) -> Sequence[float]:
        """t before each of the K steps, and 1."""
        ...

    def step(self, k: int, x: FloatArray, velocity: FloatArray) -> FloatArray:
        """x at times[k] and the model's velocity there → x at times[k + 1]."""
        ...


class Backend(Protocol):
    """Pure functions with explicit state. Called from one thread only."""

    name: str
    spec: ModelSpec
    fingerprint: str  # of the weights; the same on every backend, different after another training

    def run(self, role: str, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Run `role` (engine.model.signature) on batched inputs. Raises BackendError."""
        ...

    def tokenize(self, text: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Text → ids (L,) int64 and mask (L,) float32, truncated to the model's length."""
        ...

    def sampler(self, steps: int) -> Sampler:
        """A fresh sampler of `steps` steps, the one that the spec names."""
        ...

    def close(self) -> None:
        """Free the device. Idempotent."""
        ...


def failure(role: str, error: Exception) -> BackendError:
    """A library's error as one of ours; OutOfMemory if a smaller batch may succeed. It is recognised by its
    text, since libraries share no type for it, and naming theirs would import them."""
    text = f"{role}: {error}"
    short = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if short or any(words in text.lower() for words in SHORT):
        return OutOfMemory(text, field=role)
    return BackendError(text)
