"""Interval splitting: what is matched, on a flow whose answer is known."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.model.conditions import Conditions, denoise_inputs
from engine.model.wander.transformer import WanderDiT
from engine.training.dit.splitting import LIMIT, split_target, split_times
from tests.rigs.engine import tiny

GIVEN = denoise_inputs(tiny.inputs()).given  # the models below do not look at it


class Straight(WanderDiT):
    """Knows the velocity field v = a − x, and its exact jumps: x(t + d) = a + (x − a) e^(−d)."""

    def __init__(self) -> None:
        super().__init__(tiny.DIT)
        self.calls: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(self, x: Tensor, t: Tensor, d: Tensor, given: Conditions) -> Tensor:
        self.calls.append((x, t, d))
        at = d[:, None, None, None, None].clamp(min=1e-6)
        return (0.5 - x) * (1 - torch.exp(-at)) / at


def start(rows: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    t, d = split_times(rows)
    return torch.randn(rows, 2, 16, 6, 10), t, d


def test_two_jumps_of_a_perfect_teacher_are_the_long_one() -> None:
    x, t, d = start()
    model = Straight()
    torch.testing.assert_close(
        split_target(model, x, t, d, GIVEN), model(x, t, d, GIVEN), atol=1e-5, rtol=1e-4
    )


def test_the_two_jumps_follow_each_other_and_cover_the_way() -> None:
    x, t, d = start()
    model = Straight()
    split_target(model, x, t, d, GIVEN)
    (x1, t1, d1), (x2, t2, d2) = model.calls
    assert torch.equal(x1, x)
    torch.testing.assert_close(t2, t1 + d1)
    torch.testing.assert_close(d1 + d2, d)
    assert bool((d1 >= 0).all())
    assert bool((d2 >= 0).all())
    assert not torch.equal(x1, x2)


def test_a_teacher_that_runs_away_is_not_followed() -> None:
    class Wild(Straight):
        def forward(self, x: Tensor, t: Tensor, d: Tensor, given: Conditions) -> Tensor:
            self.calls.append((x, t, d))
            return torch.full_like(x, 1e6)

    x, t, d = start()
    model = Wild()
    split_target(model, x, t, d.clamp(min=0.1), GIVEN)
    assert float(model.calls[1][0].abs().max()) == LIMIT


def test_jumps_end_within_the_way_and_meet_both_its_ends() -> None:
    torch.manual_seed(0)
    t, d = split_times(4000)
    assert float(t.min()) == 0
    assert bool((d >= 0).all())
    assert float((t + d).max()) <= 1 + 1e-6
    at_start, at_end = t == 0, (t + d - 1).abs() < 1e-6
    assert 0.2 < float(at_start.float().mean()) < 0.3
    assert 0.2 < float(at_end.float().mean()) < 0.3
    assert 0.03 < float((at_start & at_end).float().mean()) < 0.1  # one step for everything
