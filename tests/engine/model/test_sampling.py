"""The sampler: deterministic, and equal Euler steps from noise to data."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engine.model.sampling import blanks, sample_backwards, sample_segment
from tests.rigs import tiny


def given() -> dict[str, torch.Tensor]:
    return {name: value for name, value in tiny.inputs().items() if name not in ("x", "t", "d")}


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


@pytest.mark.parametrize(
    ("segments", "expected"),
    [(1, [0]), (4, [3, 2, 1, 0]), (5, [3, 2, 2, 1, 0]), (8, [3, 2, 2, 2, 2, 2, 1, 0])],
)
def test_blanks_before_an_inverted_segment_are_framepacks(segments: int, expected: list[int]) -> None:
    assert blanks(segments) == expected


def test_an_inverted_video_is_made_last_to_first_and_told_in_order() -> None:
    """Each segment is what one call gives with all that follows it for history, nearest first."""
    c = replace(tiny.DIT, camera=None, carry=False, packing=replace(tiny.DIT.packing, order="f0"))
    model, conditions = tiny.dit(c), given()
    noise = torch.randn(3, *tiny.inputs()["x"].shape, generator=torch.Generator().manual_seed(4))
    video = sample_backwards(model, noise, 2, conditions)
    w = c.segment
    assert video.shape == (2, 3 * w, *noise.shape[3:])
    for number in range(3):
        follows = video[:, (number + 1) * w :]
        empty = torch.zeros(2, 19 - follows.shape[1], *noise.shape[3:])
        alone = {
            **conditions,
            "history": torch.cat([follows, empty], 1),
            "index": torch.full((2,), 1.0 * number),
        }
        expected = sample_segment(model, noise[number], 2, alone)
        torch.testing.assert_close(video[:, number * w : (number + 1) * w], expected)
    with pytest.raises(ValueError, match="f0"):
        sample_backwards(tiny.dit(), noise, 2, conditions)
