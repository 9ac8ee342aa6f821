"""A device that answers with zeros, which leaves only the cost of the runtime around it.

It has the shapes of a real model and takes the configured time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.backends.base import Arrays, Noise, Sampler
from engine.backends.fake_device import FakeDevice
from engine.backends.samplers import Euler, make_sampler
from engine.model.signature import ModelSpec, signature
from engine.types import FloatArray, IntArray


class BlankBackend(FakeDevice):
    """The keyword arguments are those of FakeDevice."""

    name, fingerprint = "blank", "zeros"

    def __init__(self, spec: ModelSpec, **device: Any) -> None:
        super().__init__(**device)
        self.spec = spec
        self._roles = signature(spec)
        self._made: dict[tuple[str, int], dict[str, npt.NDArray[Any]]] = {}

    def run(self, role: str, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        rows = len(next(iter(inputs.values())))
        self.called(role, rows)
        if (role, rows) not in self._made:
            outputs = self._roles[role].outputs
            self._made[role, rows] = {t.name: np.zeros((rows, *t.shape), t.dtype) for t in outputs}
        return dict(self._made[role, rows])

    def tokenize(self, text: str) -> tuple[IntArray, FloatArray]:
        return np.zeros(self.spec.text_length, np.int64), np.ones(self.spec.text_length, np.float32)

    def sampler(self, steps: int, noise: Noise) -> Sampler:
        return make_sampler(self.spec, steps, noise, lambda spec, count: Euler(count, spec.shift))

    def close(self) -> None:
        self._made.clear()


def batching_device(spec: ModelSpec, call_ms: float, row_ms: float) -> BlankBackend:
    """Denoise, decode and memorize cost `call_ms` per call plus `row_ms` per row."""
    cost = (call_ms / 1000, row_ms / 1000)
    return BlankBackend(spec, costs=dict.fromkeys((*spec.denoise_roles, "decode", "memorize"), cost))
