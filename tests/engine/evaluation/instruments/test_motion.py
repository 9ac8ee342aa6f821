"""The estimated motion of the camera, in rendered video whose camera is known."""

from __future__ import annotations

import pytest
import torch

from engine.evaluation.bench import truth
from engine.evaluation.figures.obedience import asked_px, compare
from engine.evaluation.instruments.motion import MOVES_PX, displacement
from engine.world.attributes import ACTIONS, PLACES, TIMES, WEATHERS

WAY = ("right", "right", "idle", "left", "left", "jump", "jump", "right")


@pytest.mark.parametrize(
    ("place", "time", "weather"),
    [
        ("city", "night", "rain"),
        ("snowfield", "noon", "snow"),
        ("desert", "dusk", "clear"),
        ("moon", "dawn", "fog"),
    ],
)
def test_it_reads_direction_and_speed_of_rendered_video(place: str, time: str, weather: str) -> None:
    """Rain and snow dominated by their contrast before they were removed."""
    attributes = torch.tensor([PLACES.index(place), TIMES.index(time), WEATHERS.index(weather), 2, 1])
    actions = torch.tensor([ACTIONS.index(a) for a in WAY])
    moved = displacement(truth(attributes, actions, 5))
    asked = asked_px(actions)
    assert moved.shape == asked.shape
    assert ((moved - asked).abs() < MOVES_PX).all(), moved


def test_a_change_of_light_is_no_motion() -> None:
    attributes = torch.zeros(8, 5, dtype=torch.int64)
    attributes[3:, 1] = 3  # from dawn to night
    moved = displacement(truth(attributes, torch.zeros(8, dtype=torch.int64), 1))
    assert (moved.abs() < MOVES_PX).all()


def test_obedience_counts_sign_standing_and_error() -> None:
    actions = torch.tensor([ACTIONS.index(a) for a in ("right", "right", "left", "idle")])
    found = compare(torch.tensor([7.0, -7.0, -6.0, 1.0]), actions)
    assert found["sign"] == pytest.approx(2 / 3)
    assert found["sign, first latent frame left out"] == 0.5  # only the left turn is a change
    assert found["still when asked to stand"] == 1.0
    assert found["right, px/s"] == 0.0
    assert found["left, px/s"] == pytest.approx(24.0)
    assert found["error walking, px/s"] == pytest.approx(4 * (1 + 15 + 2) / 3)
    assert found["error standing, px/s"] == pytest.approx(4.0)


def test_obedience_to_actions_that_did_not_occur_is_unknown() -> None:
    found = compare(torch.zeros(3), torch.zeros(3, dtype=torch.int64))
    assert found["sign"] is None
    assert found["still when asked to stand"] == 1.0
