"""Plays a model for measurements exactly as it is served: as a session of the runtime, on a backend."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from engine.backends.base import Arrays, Backend, Noise, Sampler
from engine.evaluation.bench import Model
from engine.model.wander.autoencoder import Autoencoder
from engine.runtime.offline import segments
from engine.script import Entry
from engine.types import ByteArray


class _WithSteps:
    """The same backend with another number of denoising steps. It does not own the device."""

    def __init__(self, backend: Backend, steps: int) -> None:
        self._backend, self.name, self.fingerprint = backend, backend.name, backend.fingerprint
        self.spec = replace(backend.spec, steps=steps, first_steps=steps)

    def run(self, role: str, inputs: Arrays) -> dict[str, Any]:
        return self._backend.run(role, inputs)

    def tokenize(self, text: str) -> tuple[Any, Any]:
        return self._backend.tokenize(text)

    def sampler(self, steps: int, noise: Noise) -> Sampler:
        return self._backend.sampler(steps, noise)

    def close(self) -> None:
        pass


def played(
    name: str, backend: Backend, autoencoder: Autoencoder, made: Callable[[float], None] | None = None
) -> Model:
    """A model that plays on `backend`. `made` is called with the seconds of video in each segment. The caller
    closes the backend."""

    def play(
        prompt: str, *, seed: int, script: Sequence[Entry], steps: int | None
    ) -> Generator[ByteArray, None, None]:
        used = backend if steps is None else _WithSteps(backend, steps)
        with closing(segments(used, prompt=prompt, seed=seed, script=script)) as video:
            for segment in video:
                if made is not None:
                    made(backend.spec.segment_s)
                yield segment.frames

    return Model(name, backend.spec, play, autoencoder)
