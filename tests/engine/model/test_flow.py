"""Rectified flow in the paper's convention, and its one bridge to the checkpoints' convention."""

from __future__ import annotations

import torch

from engine.model import flow


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Data, noise and times in fp64."""
    g = torch.Generator().manual_seed(1)
    x, noise = (torch.randn(3, 2, 4, 6, 10, generator=g, dtype=torch.float64) for _ in range(2))
    return x, noise, torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)


def test_time_zero_is_noise_and_time_one_is_data() -> None:
    x, noise, t = batch()
    xt = flow.interpolate(x, noise, t)
    assert torch.equal(xt[0], noise[0])
    assert torch.equal(xt[2], x[2])


def test_the_target_is_the_paths_derivative() -> None:
    x, noise, t = batch()
    step = 1e-3
    ahead = flow.interpolate(x, noise, t + step)
    torch.testing.assert_close((ahead - flow.interpolate(x, noise, t)) / step, flow.target(x, noise))


def test_one_step_with_the_true_velocity_is_the_data_from_anywhere() -> None:
    x, noise, t = batch()
    torch.testing.assert_close(flow.one_step(flow.interpolate(x, noise, t), flow.target(x, noise), t), x)


def test_a_step_leads_to_the_point_it_says() -> None:
    x, noise, _ = batch()
    t, by = torch.full((3,), 0.2, dtype=torch.float64), torch.full((3,), 0.5, dtype=torch.float64)
    arrived = flow.advance(flow.interpolate(x, noise, t), flow.target(x, noise), by)
    torch.testing.assert_close(arrived, flow.interpolate(x, noise, t + by))


def test_the_checkpoints_convention_is_the_same_path_the_other_way() -> None:
    """sigma = 1 - t; x = (1 - sigma) data + sigma noise; its answer is noise - data."""
    x, noise, t = batch()
    sigma = flow.checkpoint_time(t)
    torch.testing.assert_close(
        flow.interpolate(x, noise, t), (1 - flow.wide(sigma, x)) * x + flow.wide(sigma, x) * noise
    )
    assert torch.equal(flow.checkpoint_velocity(noise - x), flow.target(x, noise))
