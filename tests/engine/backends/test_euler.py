"""Where the steps of a segment lie."""

from __future__ import annotations

import numpy as np
import pytest

from engine.backends.euler import Euler


def test_plain_steps_are_equal() -> None:
    assert Euler(4).times == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_a_shift_moves_steps_towards_the_noise_as_framepack_does() -> None:
    """FramePack's table for 25 steps and shift 7: sigma 1, .994, .988 ... .378, .226, 0."""
    sigmas = [1 - t for t in Euler(25, 7).times]
    assert sigmas[:3] == pytest.approx([1, 0.994, 0.988], abs=5e-4)
    assert sigmas[-3:] == pytest.approx([0.378, 0.226, 0], abs=5e-4)
    assert sigmas[13] == pytest.approx(0.866, abs=5e-4)


@pytest.mark.parametrize("shift", [1, 3, 7])
def test_on_a_straight_path_any_steps_arrive(shift: int) -> None:
    noise, data = np.zeros((1, 2), np.float32), np.array([[1.0, -3.0]], np.float32)
    sampler, x = Euler(5, shift), noise
    for k in range(5):
        x = sampler.step(k, x, data - noise)
    np.testing.assert_allclose(x, data, rtol=1e-6)
