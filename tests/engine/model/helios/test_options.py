"""Options against flicker and drift: what they do, what they leave alone, and that they are off."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from engine.errors import InvalidInput
from engine.model.helios.border import MOST, FadedBorder, state_size
from engine.model.helios.roles import spec_of
from engine.model.helios.serve import Serve
from tests.rigs.models.helios import SMALL


class Frames(nn.Module):
    """A decoder whose latents are its frames."""

    def forward(self, latents: Tensor) -> Tensor:
        return latents


def segment(level: int, frames: int = 9) -> Tensor:
    """Grey, with a fine pattern."""
    picture = torch.full((1, frames, 3, 64, 96), level, dtype=torch.uint8)
    picture[..., ::2] += 10
    return picture


def coarse(frames: Tensor) -> list[float]:
    return [float(f.float().mean()) for f in frames[0]]


def test_a_jump_in_brightness_becomes_a_slope_and_details_stay() -> None:
    fade = FadedBorder(Frames(), 4)
    first, state = fade(segment(100), torch.zeros(1, state_size(64, 96)))
    assert torch.equal(first, segment(100))  # nothing is before it
    second, _ = fade(segment(120), state)
    assert coarse(second) == pytest.approx([109, 113, 117, 121, 125, 125, 125, 125, 125], abs=1)
    assert torch.equal(second[..., 0].int() - second[..., 1].int(), torch.full_like(second[..., 0], 10).int())


def test_a_cut_stays_a_cut() -> None:
    fade = FadedBorder(Frames(), 4)
    _, state = fade(segment(20), torch.zeros(1, state_size(64, 96)))
    other = segment(20 + int(MOST) + 1)
    assert torch.equal(fade(other, state)[0], other)


def test_rows_of_a_batch_are_their_own() -> None:
    fade = FadedBorder(Frames(), 4)
    states = torch.cat([fade(segment(n), torch.zeros(1, state_size(64, 96)))[1] for n in (100, 110)])
    both, _ = fade(torch.cat([segment(115), segment(115)]), states)
    alone, _ = fade(segment(115), states[1:])
    assert torch.equal(both[1:], alone)
    assert not torch.equal(both[:1], alone)


def test_options_are_off_and_part_of_the_spec_when_they_are_on() -> None:
    off = spec_of(SMALL, Serve())
    assert (off.has_decoder_state, off.anti_drift, off.context_noise) == (False, 0, 0)
    on = spec_of(SMALL, Serve(border_frames=4, anti_drift=0.3, history_noise=0.1))
    assert on.decoder_state == (1 + 3 * 4 * 6,)
    assert (on.anti_drift, on.context_noise) == (0.3, 0.1)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("border_frames", 10, "must be 0 to 9"),
        ("anti_drift", 1.5, "between 0 and 1"),
        ("history_noise", -1, "between 0"),
    ],
)
def test_values_out_of_range_are_named(field: str, value: float, said: str) -> None:
    with pytest.raises(InvalidInput, match=f"serve: {field} is {value}, .*{said}"):
        Serve(**{field: value})  # type: ignore[arg-type]
