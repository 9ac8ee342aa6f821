"""Preconditioning is an exact change of variables of rectified flow; the shifted hint is a plain shift."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.model.precondition import Precondition, shifted
from tests import tiny

ON, OFF = torch.ones(2), torch.zeros(2)
LEFT, RIGHT, IDLE, JUMP = (tiny.DIT.actions.index(a) for a in ("left", "right", "idle", "jump"))


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def problem() -> tuple[Tensor, Tensor, Tensor]:
    """Clean segment, noise, base."""
    base = normal(3, 2, 1, 4, 6, 10)
    return base + 0.7 * normal(1, 2, 2, 4, 6, 10), normal(2, 2, 2, 4, 6, 10), base


def interpolate(x1: Tensor, eps: Tensor, t: float) -> Tensor:
    return t * x1 + (1 - t) * eps


@pytest.mark.parametrize("context", [ON, OFF])
@pytest.mark.parametrize("t", [0.02, 0.1, 0.5, 0.9, 0.97])
def test_the_answer_for_the_true_segment_gives_the_true_velocity(
    problem: tuple[Tensor, Tensor, Tensor], context: Tensor, t: float
) -> None:
    x1, eps, base = problem
    base = base * context[:, None, None, None, None]
    p, at = Precondition(0.5), torch.full((2,), t, dtype=torch.float64)
    xt = interpolate(x1, eps, t)
    k, c = p.coefficients(at, context)
    net = (x1 - base - k * (xt / t - base)) / c  # what the network should answer
    torch.testing.assert_close(p.estimate(xt, at, net, base, context), x1)
    torch.testing.assert_close(p.velocity(xt, at, net, base, context), x1 - eps)


def test_any_answer_means_the_same_as_estimate_and_as_velocity(
    problem: tuple[Tensor, Tensor, Tensor],
) -> None:
    x1, eps, base = problem
    p, net = Precondition(0.5), normal(9, *x1.shape)
    for t in (0.05, 0.4, 0.95):
        at, xt = torch.full((2,), t, dtype=torch.float64), interpolate(x1, eps, t)
        velocity = p.velocity(xt, at, net, base, ON)
        torch.testing.assert_close(xt + (1 - t) * velocity, p.estimate(xt, at, net, base, ON))


def test_a_variance_of_zero_is_plain_rectified_flow(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    x1, eps, base = problem
    at, net = torch.full((2,), 0.3, dtype=torch.float64), x1 - eps
    p = Precondition(0.0)
    assert torch.equal(p.velocity(interpolate(x1, eps, 0.3), at, net, base, ON), net)
    torch.testing.assert_close(p.estimate(interpolate(x1, eps, 0.3), at, net, base, ON), x1)


@pytest.mark.parametrize("context", [1.0, 0.0])
@pytest.mark.parametrize("t", [0.03, 0.2, 0.5, 0.8, 0.97])
def test_the_target_has_unit_variance_at_every_t(context: float, t: float) -> None:
    """So every t weighs alike in the loss, and it starts at about 1."""
    n, s = 40_000, 0.5 if context else 1.0
    base = normal(5, 1, 1, 1, 1, n) * context
    x1, eps = base + s**0.5 * normal(6, 1, 1, 1, 1, n), normal(7, 1, 1, 1, 1, n)
    k, c = Precondition(0.5).coefficients(torch.tensor([t], dtype=torch.float64), torch.tensor([context]))
    target = (x1 - base - k * (interpolate(x1, eps, t) / t - base)) / c
    assert float(target.var()) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("t", [0.0, 1.0])
def test_both_ends_are_finite(problem: tuple[Tensor, Tensor, Tensor], t: float) -> None:
    x1, eps, base = problem
    at = torch.full((2,), t, dtype=torch.float64)
    velocity = Precondition(0.5).velocity(interpolate(x1, eps, t), at, 0 * x1, base, ON)
    assert bool(velocity.isfinite().all())


def test_the_hint_is_the_last_latent_shifted_by_what_the_actions_walk() -> None:
    """The camera goes right, the picture left; what comes in at the edge repeats it."""
    base = normal(1, 3, 1, 16, 6, 10)
    actions = torch.tensor([[RIGHT, RIGHT], [LEFT, JUMP], [IDLE, RIGHT]])
    hint = shifted(base, actions, tiny.DIT).unflatten(2, (3, 16))
    steps = [[1, 2], [-1, -1], [0, 1]]
    for b in range(3):
        for frame in range(2):
            for layer, cells in enumerate(tiny.DIT.shift_cells):
                columns = [min(max(x + cells * steps[b][frame], 0), 9) for x in range(10)]
                assert torch.equal(hint[b, frame, layer], base[b, 0][..., columns])
