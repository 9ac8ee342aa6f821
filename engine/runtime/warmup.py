"""What a segment takes on this device, measured before the first session is opened: on a scratch session."""

from __future__ import annotations

import numpy as np

from engine.config import RuntimeConfig
from engine.runtime.costs import Clock
from engine.runtime.generator import Generator
from engine.runtime.session import Session
from engine.types import OpenSession

SEGMENTS = 3
SLOW_S = 5.0  # a device on which one takes longer is as warm as it gets


def warm_up(generator: Generator, config: RuntimeConfig, clock: Clock) -> float:
    """Seconds of a usual segment. A few are made, one on a slow device. Raises BackendError."""
    spec, usual_s = generator.spec, 0.0
    blank = np.zeros((3, spec.height, spec.width), np.uint8) if spec.needs_image else None
    scratch = Session(OpenSession("warm-up", "", 0, blank), spec, config, clock())
    for _ in range(SEGMENTS):
        start_s, steps = clock(), generator.steps(scratch.state.index)
        scratch.prepare(generator)
        latents = generator.denoise([scratch.job()])
        generator.finish([scratch.job()], latents)
        usual_s = (clock() - start_s) * spec.steps / steps
        if usual_s > SLOW_S:
            break
    return usual_s
