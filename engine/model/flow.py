"""Rectified flow, in the paper's convention (arXiv 2510.01784, Eqs. 3 to 7): t = 0 is noise, t = 1 is data.

The public checkpoints use σ = 1 − t and answer ε − x. Only the two functions at the end know of this.
Sampling and losses are elsewhere.

Legend: B batch; x, ε and velocities (B, ...); t (B,).
"""

from __future__ import annotations

from torch import Tensor


def wide(value: Tensor, like: Tensor) -> Tensor:
    """(B,) → (B, 1, ..., 1), as many axes as `like`."""
    return value.reshape(-1, *[1] * (like.ndim - 1))


def interpolate(x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Eq. 3: x_t = (1 − t) ε + t x."""
    at = wide(t, x)
    return (1 - at) * noise + at * x


def target(x: Tensor, noise: Tensor) -> Tensor:
    """Eq. 4: the velocity u = dx_t/dt = x − ε, which the network learns to predict (Eq. 5)."""
    return x - noise


def advance(xt: Tensor, velocity: Tensor, by: Tensor) -> Tensor:
    """Eq. 6, one Euler step: x_{t + by} = x_t + by · u."""
    return xt + wide(by, xt) * velocity


def one_step(xt: Tensor, velocity: Tensor, t: Tensor) -> Tensor:
    """Eq. 7: x̃₁ = x_t + ∫ₜ¹ u ≈ x_t + (1 − t) u, Direct Forcing's estimate of the clean segment."""
    return advance(xt, velocity, 1 - t)


def checkpoint_time(t: Tensor) -> Tensor:
    """Our t → the checkpoints' σ; their embedding multiplies it by 1000."""
    return 1 - t


def checkpoint_velocity(answer: Tensor) -> Tensor:
    """The checkpoints' ε − x → our x − ε."""
    return -answer
