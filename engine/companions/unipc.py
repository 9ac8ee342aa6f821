"""UniPC as FramePack uses it: diffusers' scheduler, with one setting that diffusers lacks.

UniPC (Zhao et al., arXiv 2302.04867), variant B1, data prediction, order 3 with corrector, at FramePack's
noise levels. It deviates from diffusers' flow matching in two ways, both taken from FramePack
(k_diffusion/uni_pc_fm.py): polynomials run over λ = −log σ, which is finite at pure noise, instead of log((1
− σ)/σ); and the result is the last estimate of the data, instead of a step of infinite length in λ.

Legend: K steps; x and velocities (B, ...).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from engine.companions.libraries import library
from engine.types import FloatArray

ORDER = 3


class UniPC:
    """An integrator for one segment of one batch; it keeps its previous steps. See
    engine.backends.samplers.Integrator.

    `shift` s puts the noise levels at σ → s σ / (1 + (s − 1) σ). Raises Unavailable without diffusers."""

    def __init__(self, steps: int, shift: float = 1.0) -> None:
        even = [1 - k / steps for k in range(steps)]
        sigmas = [shift * s / (1 + (shift - 1) * s) for s in even]
        self.times = [*(1 - s for s in sigmas), 1.0]
        self._scheduler = _scheduler(sigmas)
        self._next = 0

    def step(self, k: int, x: FloatArray, velocity: FloatArray) -> FloatArray:
        """x at times[k] and the model's velocity there → x at times[k + 1]. Steps must be taken in order,
        each once."""
        if k != self._next:
            raise ValueError(f"step {k} where step {self._next} is due")
        self._next += 1
        if k == len(self.times) - 2:
            return x + np.float32(1 - self.times[k]) * velocity
        to_noise = torch.tensor(-velocity)  # the scheduler's velocity points towards noise
        out: FloatArray = self._scheduler.step(to_noise, k, torch.tensor(x), return_dict=False)[0].numpy()
        return out


def _scheduler(sigmas: list[float]) -> Any:
    scheduler = library("diffusers").UniPCMultistepScheduler(
        solver_order=max(1, min(ORDER, len(sigmas) - 1)),
        solver_type="bh1",
        predict_x0=True,
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=1.0,
        lower_order_final=False,
    )
    scheduler.set_timesteps(sigmas=np.array(sigmas))
    scheduler.sigmas[0] = sigmas[0]  # diffusers lowers it by 1e-6, for log((1 − σ)/σ)
    scheduler.set_begin_index(0)
    scheduler._sigma_to_alpha_sigma_t = lambda sigma: (torch.ones_like(sigma), sigma)
    return scheduler
