"""UniPC: FramePack's noise levels, the integrals that its steps approximate, and its accuracy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import log

import numpy as np
import numpy.typing as npt
import pytest

from engine.backends.pytorch import integrator
from engine.backends.samplers import Euler, Integrator
from engine.companions.unipc import UniPC
from tests.engine.model.test_config import SPEC

Field = Callable[[npt.NDArray[np.float64], float], npt.NDArray[np.float64]]
FRAMEPACK = [1, 0.994, 0.988, 0.981, 0.974, 0.966, 0.957, 0.947, 0.937, 0.926, 0.913, 0.899, 0.883]
FRAMEPACK += [0.866, 0.846, 0.824, 0.797, 0.767, 0.731, 0.689, 0.636, 0.571, 0.488, 0.378, 0.226, 0]
MEAN, DEVIATION = 0.7, 0.5  # of the data that the field leads to
NOISE = np.random.default_rng(0).standard_normal((4, 2, 3, 2, 2))


def linear(x: npt.NDArray[np.float64], t: float) -> npt.NDArray[np.float64]:
    """The velocity of rectified flow to N(MEAN, DEVIATION²), linear in x. The exact result is MEAN +
    DEVIATION times the initial noise."""
    variance = (t * DEVIATION) ** 2 + (1 - t) ** 2
    return MEAN + (t * DEVIATION**2 - (1 - t)) / variance * (x - t * MEAN)


def curved(x: npt.NDArray[np.float64], t: float) -> npt.NDArray[np.float64]:
    return np.asarray(np.sin(3 * x + 2 * t) - x * t)


def played(sampler: Integrator, field: Field) -> npt.NDArray[np.float32]:
    x = NOISE.astype(np.float32)
    for k, t in enumerate(sampler.times[:-1]):
        x = sampler.step(k, x, field(x.astype(np.float64), t).astype(np.float32))
        assert x.dtype == np.float32
    return x


def by_integrals(sampler: UniPC, field: Field) -> npt.NDArray[np.float64]:
    """The method from its definition: with λ = −log σ, x(σ') = σ'/σ x + σ' ∫ exp(λ) P(λ) dλ, where P is the
    polynomial through the last estimates of the data: first without, then with the one at σ'. With a single
    difference, the paper gives it the coefficient one half."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    sigmas = [1 - t for t in sampler.times[:-1]]
    order = max(1, min(3, len(sigmas) - 1))

    def to(k: int, x: npt.NDArray[np.float64], known: list[int]) -> npt.NDArray[np.float64]:
        """From sigmas[k] to the next with P through the estimates at `known`, the first of them at k."""
        at = [-log(sigmas[i]) for i in range(k + 2)]
        h, out = at[k + 1] - at[k], sigmas[k + 1] / sigmas[k] * x
        if len(known) == 2:
            slope = (data[known[1]] - data[k]) / ((at[known[1]] - at[k]) / h)
            return out + (1 - sigmas[k + 1] / sigmas[k]) * data[k] + h * 0.5 * slope
        for node, weight in zip(nodes, weights, strict=True):
            here = at[k] + h * (node + 1) / 2
            parts = [
                data[i] * np.prod([(here - at[j]) / (at[i] - at[j]) for j in known if j != i]) for i in known
            ]
            out = out + sigmas[k + 1] * h / 2 * weight * np.exp(here) * sum(parts)
        return out

    x = NOISE.copy()
    data = [x + sigmas[0] * field(x, 0.0)]
    for k in range(len(sigmas) - 1):
        p = min(order, k + 1)
        past = [k - i for i in range(p)]
        guess = to(k, x, past)
        data.append(guess + sigmas[k + 1] * field(guess, 1 - sigmas[k + 1]))
        x = to(k, x, [k, *past[1:], k + 1])
    return data[-1]


def test_the_noise_levels_are_those_of_framepack() -> None:
    """25 steps with shift 7 match the published table to three digits, and Euler's noise levels."""
    sigmas = [1 - t for t in UniPC(25, 7).times]
    assert [round(s, 3) for s in sigmas] == FRAMEPACK
    for steps, shift in ((25, 7), (4, 1), (1, 3)):
        assert UniPC(steps, shift).times == pytest.approx(Euler(steps, shift).times, abs=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 12, 25])
@pytest.mark.parametrize("shift", [1, 7])
@pytest.mark.parametrize("field", [linear, curved])
def test_each_step_equals_its_integral(field: Field, steps: int, shift: int) -> None:
    """diffusers' coefficients against quadrature, up to fp32's precision."""
    found, expected = played(UniPC(steps, shift), field), by_integrals(UniPC(steps, shift), field)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("steps", "shift", "gain"), [(4, 1, 2), (6, 1, 5), (10, 1, 3), (25, 1, 3), (25, 7, 1.5)]
)
def test_it_is_more_accurate_than_euler_at_the_same_steps(steps: int, shift: int, gain: float) -> None:
    exact = MEAN + DEVIATION * NOISE
    euler = np.abs(played(Euler(steps, shift), linear) - exact).max()
    assert np.abs(played(UniPC(steps, shift), linear) - exact).max() < euler / gain


def test_a_straight_path_arrives_exactly() -> None:
    target = np.full_like(NOISE, 2.0)
    out = played(UniPC(5, 7), lambda x, t: (target - x) / (1 - t))
    np.testing.assert_allclose(out, target, atol=1e-5)


def test_a_model_that_asks_for_it_gets_a_fresh_one_for_each_segment() -> None:
    spec = replace(SPEC, sampler="unipc", shift=7)
    first, second = integrator(spec, 4), integrator(spec, 4)
    assert isinstance(first, UniPC)
    assert np.array_equal(played(first, curved), played(second, curved))


def test_steps_out_of_order_are_refused() -> None:
    """The integrator keeps its previous steps, so a second use would continue from the wrong ones."""
    sampler = UniPC(3)
    played(sampler, curved)
    with pytest.raises(ValueError, match="step 0 where step 3 is due"):
        sampler.step(0, NOISE.astype(np.float32), NOISE.astype(np.float32))
