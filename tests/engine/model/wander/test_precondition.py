"""Preconditioning is an exact change of variables of rectified flow; the shifted hint is a plain shift."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.model.wander.precondition import CERTAIN, Precondition, shifted
from tests.rigs.engine import tiny

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
@pytest.mark.parametrize("t", [0.0, 0.02, 0.5, 0.97, 1.0])
def test_answers_and_velocities_are_two_ways_to_say_the_same(
    problem: tuple[Tensor, Tensor, Tensor], context: Tensor, t: float
) -> None:
    x1, eps, base = problem
    base = base * context[:, None, None, None, None]
    p, at = Precondition(0.5), torch.full((2,), t, dtype=torch.float64)
    xt = interpolate(x1, eps, t)
    answer = p.answer(xt, at, x1 - eps, base, context)
    torch.testing.assert_close(p.velocity(xt, at, answer, base, context), x1 - eps)


@pytest.mark.parametrize("context", [ON, OFF])
@pytest.mark.parametrize("t", [0.02, 0.1, 0.5, 0.9, 0.97])
def test_the_answer_is_the_distance_from_the_posterior_mean_in_deviations(
    problem: tuple[Tensor, Tensor, Tensor], context: Tensor, t: float
) -> None:
    x1, eps, base = problem
    base = base * context[:, None, None, None, None]
    s = torch.where(context > 0.5, 0.5, 1.0).double()[:, None, None, None, None]
    xt = interpolate(x1, eps, t)
    k = s / (s + ((1 - t) / t) ** 2)
    wanted = (x1 - base - k * (xt / t - base)) / (s * (1 - k)).sqrt()
    at = torch.full((2,), t, dtype=torch.float64)
    torch.testing.assert_close(Precondition(0.5).answer(xt, at, x1 - eps, base, context), wanted)


def test_a_variance_of_zero_is_plain_rectified_flow(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    x1, eps, base = problem
    at, net = torch.full((2,), 0.3, dtype=torch.float64), x1 - eps
    p = Precondition(0.0)
    assert torch.equal(p.velocity(interpolate(x1, eps, 0.3), at, net, base, ON), net)
    assert torch.equal(p.answer(interpolate(x1, eps, 0.3), at, net, base, ON), net)


@pytest.mark.parametrize("context", [1.0, 0.0])
@pytest.mark.parametrize("t", [0.0, 0.03, 0.2, 0.5, 0.8, 0.97, 1.0])
def test_the_target_has_unit_variance_at_every_t(context: float, t: float) -> None:
    """So every t weighs alike in the loss, and it starts at about 1."""
    n, s = 40_000, 0.5 if context else 1.0
    base = normal(5, 1, 1, 1, 1, n) * context
    x1, eps = base + s**0.5 * normal(6, 1, 1, 1, 1, n), normal(7, 1, 1, 1, 1, n)
    at, on = torch.tensor([t], dtype=torch.float64), torch.tensor([context])
    target = Precondition(0.5).answer(interpolate(x1, eps, t), at, x1 - eps, base, on)
    assert float(target.var()) == pytest.approx(1, abs=0.03)


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


@pytest.mark.parametrize("context", [ON, OFF])
@pytest.mark.parametrize("t", [0.0, 0.02, 0.5, 0.97, 1.0])
def test_cells_that_are_sure_of_a_layer_have_that_layers_narrow_prior(
    problem: tuple[Tensor, Tensor, Tensor], context: Tensor, t: float
) -> None:
    """An answer of zero in the other prior is the same velocity as what `carried` adds in this one."""
    x1, eps, base = problem
    base = base * context[:, None, None, None, None]
    layer = normal(5, *x1.shape)
    moved = torch.stack([base.expand_as(layer), layer], 2)
    at, xt = torch.full((2,), t, dtype=torch.float64), interpolate(x1, eps, t)
    p, share = Precondition(0.5), torch.ones(2, 2, 2, 6, 10, dtype=torch.float64)
    velocity = p.velocity(xt, at, p.carried(xt, at, base, moved, share, context), base, context)
    other = Precondition(CERTAIN).velocity(xt, at, torch.zeros_like(xt), layer, ON)
    torch.testing.assert_close(velocity, other)


def test_shares_of_zero_carry_nothing(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    x1, eps, base = problem
    moved = torch.stack([base.expand_as(x1), x1], 2)
    at = torch.full((2,), 0.4, dtype=torch.float64)
    added = Precondition(0.5).carried(eps, at, base, moved, torch.zeros(2, 2, 2, 6, 10), ON)
    assert not added.any()
