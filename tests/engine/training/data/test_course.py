"""Structure W and the plan give a chain the same hints as a session would get."""

from __future__ import annotations

from dataclasses import replace

import torch

from engine.model.config import CameraConfig, ModelConfig
from engine.model.wander.hints import known, planned, present, way
from engine.model.wander.places import UNSETTLED, Places, keep
from engine.training.data.chains import chains_of
from engine.training.data.course import SETTLED, Course, RunningPlaces, Withheld, course_of
from engine.training.data.latents import Pool
from engine.training.data.windows import Windows
from engine.world.attributes import ACTIONS
from tests.rigs.engine import tiny

IDLE, LEFT, RIGHT, JUMP = range(len(ACTIONS))
C: ModelConfig = tiny.DIT
assert C.camera is not None
CAMERA: CameraConfig = C.camera
LENGTH = 16


def a_pool(attributes: torch.Tensor | None = None) -> Pool:
    g = torch.Generator().manual_seed(2)
    shape = (3, LENGTH, C.channels, C.latent_height, C.latent_width)
    actions = torch.randint(0, 4, (3, LENGTH), generator=g)
    landmarks = torch.tensor([[30.0, 1, 0, 1.0], [90.0, 2, 1, 1.0]]).expand(3, -1, -1).clone()
    if attributes is None:
        attributes = torch.zeros(3, LENGTH, 5, dtype=torch.int64)
    return Pool(torch.randn(shape, generator=g).half(), attributes, actions, landmarks=landmarks)


def windows(start: int, scene: int = 0) -> Windows:
    return Windows(torch.arange(3), torch.full((3,), start), torch.full((3,), scene))


def complete_course(pool: Pool, w: Windows, segments: int) -> Course:
    """Without withheld landmarks."""
    return course_of(pool, w, segments, C, Withheld(0.0, 0.0))


def test_places_before_a_chain_are_those_that_a_session_keeps() -> None:
    pool = a_pool()
    found = complete_course(pool, windows(8), 1)
    session = Places.empty(3, C.channels, C.latent_height, CAMERA)
    odometer, none = torch.zeros(3, dtype=torch.int64), torch.zeros(3)
    assert pool.landmarks is not None
    for k in range(0, 8, C.segment):
        actions = pool.actions[:, k : k + C.segment]
        where = way(odometer, actions, actions, C)
        standing = present(planned(pool.landmarks, where.odometer, C.latent_width, CAMERA))
        segment = pool.latents[:, k : k + C.segment].float()
        stamp = none[:, None].expand(-1, C.segment)
        session = keep(
            session,
            segment,
            odometer=where.odometer,
            step=where.step,
            look=none,
            stamp=stamp,
            landmark=standing,
            camera=CAMERA,
        )
        odometer = where.odometer[:, -1]
    assert torch.equal(found.odometer, odometer)
    assert torch.equal(found.acted, pool.actions[:, 6:8])
    for a, b in zip(found.places, session, strict=True):
        assert torch.equal(a, b)


def test_going_through_a_chain_is_starting_later() -> None:
    """With the truth kept, a chain's second segment finds what a chain that starts there finds."""
    pool = a_pool()
    early = complete_course(pool, windows(6), 2)
    late = complete_course(pool, windows(8), 1)
    actions = pool.actions[:, 6:10].unflatten(1, (2, C.segment))
    running = RunningPlaces(early, actions, C)
    running.update(pool.latents[:, 6:8].float())
    there = RunningPlaces(late, actions[:, 1:], C)
    history, context = torch.randn(3, 19, C.channels, C.latent_height, C.latent_width), torch.ones(3)
    assert torch.equal(running.hints(history, context), there.hints(history, context))


def test_nothing_from_before_the_scene_is_known() -> None:
    pool = a_pool()
    assert not complete_course(pool, windows(8, scene=8), 1).places.marks.any()
    some = complete_course(pool, windows(8, scene=6), 1).places.marks[..., 0].sum()
    all_ = complete_course(pool, windows(8), 1).places.marks[..., 0].sum()
    assert 0 < some < all_


def test_views_from_before_a_change_are_old_until_it_is_complete() -> None:
    attributes = torch.zeros(3, LENGTH, 5, dtype=torch.int64)
    attributes[:, 4:, 1] = 1
    found = complete_course(a_pool(attributes), windows(4), 6)
    assert found.look.tolist() == [[1.0] * 6] * 3
    assert found.stamp[0].flatten().tolist() == [1 - UNSETTLED] * SETTLED + [1.0] * 6


def test_a_scene_that_starts_under_a_new_prompt_has_nothing_to_change_from() -> None:
    attributes = torch.zeros(3, LENGTH, 5, dtype=torch.int64)
    attributes[:, 4:, 1] = 1
    found = complete_course(a_pool(attributes), windows(4, scene=4), 2)
    assert (found.stamp == 1).all()


def test_chains_of_models_without_a_camera_know_no_walk() -> None:
    blind = replace(C, camera=None, carry=False)
    assert chains_of(a_pool(), windows(8), 1, 2, blind).walk is None


def test_landmarks_are_withheld_from_some_chains() -> None:
    assert not course_of(a_pool(), windows(8), 1, C, Withheld(1.0, 0.0)).landmarks[..., 1].any()
    far = replace(C, camera=replace(CAMERA, hero_px=10))
    found = course_of(a_pool(), windows(8), 1, far, Withheld(0.0, 1.0)).landmarks[..., 1]
    assert found[:, 0].eq(0).all(), "it was on the screen when the scene started"
    assert found[:, 1].eq(2).all()


def test_hints_of_a_known_place_say_so() -> None:
    pool = a_pool()
    found = complete_course(pool, windows(8), 1)
    running = RunningPlaces(found, pool.actions[:, None, 8:10], C)
    hints = running.hints(torch.zeros(3, 19, C.channels, C.latent_height, C.latent_width), torch.ones(3))
    assert 0.3 < float(known(hints, C)[:, :, 0].mean()) < 1
