"""Hints: the same phase, each layer moved; the plan of landmarks; and the world bears them out."""

from __future__ import annotations

import torch

from engine.model.config import COLOURS, KINDS, PLAN, CameraConfig
from engine.model.wander.hints import hints, known, planned, present, same_phase, scenery, way
from engine.model.wander.places import Places
from engine.world.attributes import (
    ACTIONS,
    HERO_X,
    LANDMARK_JITTER_PX,
    LANDMARK_SPACING_PX,
    LANDMARKS,
    WALK_PX_PER_FRAME,
)
from engine.world.attributes import COLOURS as COLOUR_NAMES
from engine.world.motion import LATENT_PX
from tests.rigs.engine import tiny

IDLE, LEFT, RIGHT, JUMP = range(len(ACTIONS))
C = tiny.DIT
assert C.camera is not None
CAMERA = C.camera


def test_the_cameras_numbers_are_the_worlds() -> None:
    world = CameraConfig()
    assert (world.hero_px, world.cell_px) == (HERO_X, LATENT_PX)
    assert (len(LANDMARKS), len(COLOUR_NAMES)) == (KINDS, COLOURS)
    assert world.cell_px == WALK_PX_PER_FRAME * 4
    assert (world.landmark_kinds, world.landmark_colours) == (LANDMARKS, COLOUR_NAMES)
    assert world.landmark_spacing_px == LANDMARK_SPACING_PX
    assert world.landmark_jitter_px == LANDMARK_JITTER_PX


def test_the_way_counts_from_the_same_frame_of_the_segment_before() -> None:
    acted = torch.tensor([[RIGHT, RIGHT], [IDLE, LEFT], [RIGHT, JUMP]])
    actions = torch.tensor([[RIGHT, RIGHT], [LEFT, IDLE], [IDLE, RIGHT]])
    where = way(torch.tensor([5, 0, 0]), acted, actions, C)
    assert where.step.tolist() == [[1, 1], [-1, 0], [0, 1]]
    assert where.odometer.tolist() == [[6, 7], [-1, -1], [0, 1]]
    assert where.moved.tolist() == [[2, 2], [-2, -1], [0, 1]]


def test_the_segment_before_is_moved_as_each_layer_is() -> None:
    """The camera goes right, the picture left; what comes in at the edge repeats it."""
    history = torch.randn(2, 5, 3, 4, 10)
    moved = torch.tensor([[2, 1], [-2, 0]])
    still, near, middle = same_phase(history, moved, CAMERA).unbind(2)
    assert torch.equal(still, history[:, -2:])

    def shifted(row: int, frame: int, cells: int) -> torch.Tensor:
        return history[row, 3 + frame][..., [min(max(x + cells, 0), 9) for x in range(10)]]

    assert torch.equal(near[0, 0], shifted(0, 0, 2))
    assert torch.equal(near[1, 0], shifted(1, 0, -2))
    assert torch.equal(middle[0, 0], shifted(0, 0, 1))
    torch.testing.assert_close(middle[0, 1], (shifted(0, 1, 0) + shifted(0, 1, 1)) / 2)
    assert torch.equal(middle[1, 1], shifted(1, 1, 0))


def test_a_plan_tells_kind_colour_and_where_of_each_column() -> None:
    camera = CameraConfig()
    landmarks = torch.tensor([[[100.0, 4, 5, 1.0], [400.0, 2, 0, 1.0], [60.0, 0, 0, 1.0]]])
    plan = planned(landmarks, torch.tensor([[0, 4]]), 20, camera)
    assert plan.shape == (1, 2, PLAN, 20)
    # At odometer 0 the world's px 100 is at the screen's column 180, at odometer 4 at 148.
    columns = torch.arange(20) * 8 + 4.0
    for frame, x in enumerate((180, 148)):
        there = (columns - x).abs() < 26
        assert torch.equal(present(plan)[0, frame] > 0, there)
        assert torch.equal(plan[0, frame, 3] > 0, there)
        assert torch.equal(plan[0, frame, KINDS + 5] > 0, there)
        torch.testing.assert_close(plan[0, frame, -1][there], (columns - x)[there] / 26)
    assert not plan[0, :, 1].any(), "the house is far away"


def test_hints_are_candidates_then_flags_then_the_plan() -> None:
    g = torch.Generator().manual_seed(0)
    history = torch.randn(2, 19, C.channels, C.latent_height, C.latent_width, generator=g)
    where = way(torch.tensor([0, 3]), torch.full((2, 2), RIGHT), torch.full((2, 2), RIGHT), C)
    places = Places.empty(2, C.channels, C.latent_height, CAMERA)
    nothing = torch.zeros(2, CAMERA.landmarks, 4)
    context = torch.tensor([1.0, 0.0])
    out = hints(
        history,
        context,
        where=where,
        places=places,
        look=torch.zeros(2),
        landmarks=nothing,
        camera=CAMERA,
    )
    assert out.shape == (2, C.segment, C.hint_channels, C.latent_height, C.latent_width)
    candidates = out[:, :, : CAMERA.candidates * C.channels].unflatten(2, (-1, C.channels))
    assert torch.equal(candidates[0, 1, 0], history[0, -1])
    assert torch.equal(candidates[0, 0, 1], history[0, -2])
    assert not known(out, C).any()
    assert not out[1].any(), "there is no scene"


def test_every_token_knows_where_in_the_scenery_it_stands() -> None:
    camera = CameraConfig(loop=160)
    assert camera.scenery == 160 + 320
    rows = scenery(torch.tensor([[0, 159], [-1, 160]]), 20, camera)
    assert rows is not None
    assert rows.shape == (2, 2, 2, 10)
    # The near layer moves a column a step, the middle one half of its two columns per cell.
    assert rows[0, 0].tolist() == [list(range(0, 20, 2)), [160 + 2 * x for x in range(0, 20, 2)]]
    assert rows[0, 1].tolist() == [[159, *range(1, 18, 2)], [160 + 159 + 2 * x for x in range(0, 20, 2)]]
    assert rows[1, 0, :, 0].tolist() == [159, 160 + 319]
    assert rows[1, 1, :, 0].tolist() == [0, 160 + 160]
    assert scenery(torch.zeros(1, 2).long(), 20, CameraConfig()) is None
