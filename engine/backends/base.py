"""The interface of backends: they run the roles of the step contract on numpy arrays.

A backend knows shapes and devices. It knows nothing about sessions and time, and prompts are only text to
tokenize.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy.typing as npt

from engine.errors import BackendError, OutOfMemory
from engine.model.signature import ModelSpec
from engine.types import FloatArray

Arrays = Mapping[str, npt.NDArray[Any]]
SHORT = ("out of memory", "allocate memory", "not enough memory", "bad allocation", "bad_alloc")


Noise = Callable[[int, tuple[int, ...]], FloatArray]  # stream, shape → standard normal, always the same


class Sampler(Protocol):
    """Takes one draft from noise to a clean segment, one network call at a time. It belongs to the model: the
    spec names it and says at how many sizes it works."""

    @property
    def x(self) -> FloatArray:
        """(W, C, h, w) of the next call; clean latents once no call is left."""
        ...

    @property
    def role(self) -> str:
        """The role of the next call. Drafts share calls of the same role only."""
        ...

    @property
    def calls_left(self) -> int: ...

    def told(self) -> dict[str, npt.NDArray[Any]]:
        """Inputs of the next call besides x and conditions, such as its time; scalars by name."""
        ...

    def advance(self, answer: FloatArray) -> None:
        """Process the call's output (W, C, h, w), and move on to the next call."""
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

    def sampler(self, steps: int, noise: Noise) -> Sampler:
        """A fresh sampler of `steps` calls, the one that the spec names. `noise` is its draft's own."""
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
