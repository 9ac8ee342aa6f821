"""The sampler: deterministic, and equal Euler steps from noise to data."""

from __future__ import annotations

import pytest
import torch

from engine.model.conditions import Conditions, denoise_inputs
from engine.training.dit.sampling import sample_segment
from tests.rigs.engine import tiny


def given() -> Conditions:
    return denoise_inputs(tiny.inputs()).given


def test_the_same_noise_gives_the_same_segment() -> None:
    model, noise = tiny.dit(), tiny.inputs()["x"]
    assert torch.equal(sample_segment(model, noise, 3, given()), sample_segment(model, noise, 3, given()))
    other = sample_segment(model, noise + 1, 3, given())
    assert not torch.equal(sample_segment(model, noise, 3, given()), other)


@pytest.mark.parametrize("steps", [1, 4])
def test_steps_are_equal_and_go_from_noise_to_data(steps: int) -> None:
    model, x = tiny.dit(), tiny.inputs()["x"]
    sampled = sample_segment(model, x, steps, given())
    d = torch.full((2,), 1 / steps)
    with torch.no_grad():
        for k in range(steps):
            x = x + model(x, torch.full((2,), k / steps), d, given()) * d[0]
    assert torch.equal(sampled, x)
