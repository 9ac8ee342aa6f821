"""Plays a model for measurements exactly as it is served: as a session of the runtime, on a backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Generator as Iterates
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.backends.base import Arrays, Backend, Noise, Sampler
from engine.evaluation.bench import Model
from engine.model.wander.autoencoder import Autoencoder
from engine.runtime.offline import segments
from engine.runtime.segment.generator import Generator, Job
from engine.runtime.state.state import SessionState
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
    ) -> Iterates[ByteArray, None, None]:
        used = backend if steps is None else _WithSteps(backend, steps)
        with closing(segments(used, prompt=prompt, seed=seed, script=script)) as video:
            for segment in video:
                if made is not None:
                    made(backend.spec.segment_s)
                yield segment.frames

    return Model(name, backend.spec, play, autoencoder, partial(followed, backend))


def followed(
    backend: Backend,
    prompt: str,
    *,
    seed: int,
    past: Tensor,
    actions: Tensor,
    landmarks: Tensor,
    noise: float | None,
) -> Tensor:
    """engine.evaluation.bench.Follow: a session's state is fed `past` in place of its own segments."""
    spec, generator = backend.spec, Generator(backend, noise)
    state = SessionState.zeros(spec)
    generator.conditioner.start_scene(state, prompt, seed=seed, scene=0)
    if spec.landmarks:
        slots = np.zeros((spec.landmarks, 4), np.float32)
        for row in landmarks.numpy():
            slots[int(row[0] // spec.landmark_spacing_px) % len(slots)] = row
        state.landmarks = slots
    keys = actions[:: spec.segment].tolist()
    for segment, key in zip(past.numpy().reshape(-1, 1, spec.segment, *past.shape[1:]), keys, strict=False):
        generator.finish([Job(state, key)], segment)
    return torch.from_numpy(generator.denoise([Job(state, keys[len(past) // spec.segment])])[0])
