"""Structure W: what was seen somewhere is found there again, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from engine.model.config import CameraConfig
from engine.model.wander.places import Places, Recalled, keep, recall

WIDTH, CHANNELS, HEIGHT = 10, 3, 2
CAMERA = CameraConfig(columns=64, still=WIDTH, hero=(4, 6))
NEAR, MIDDLE, FAR = range(3)


class Walker:
    """Walks through a world whose columns are told by numbers, one frame at a time, and keeps what it sees.

    A view holds the column's number in each layer, so that what is recalled says where it came from."""

    def __init__(self, camera: CameraConfig = CAMERA) -> None:
        self.camera, self.at, self.look, self.time = camera, 0, 0.0, 0
        self.places = Places.empty(1, CHANNELS, HEIGHT, camera)

    def picture(self) -> Tensor:
        """(1, 1, C, h, w): near column, middle column, when it was seen."""
        x = torch.arange(WIDTH)
        rows = torch.stack([self.at + x, self.at + 2 * x, torch.full_like(x, self.time)]).float()
        return rows[None, None, :, None].expand(1, 1, CHANNELS, HEIGHT, WIDTH)

    def step(self, way: int = 0, *, settled: bool = True, landmarks: tuple[int, ...] = ()) -> None:
        self.at += way
        self.time += 1
        standing = torch.zeros(1, 1, WIDTH)
        standing[..., list(landmarks)] = 1
        stamp = self.look if settled else self.look - 0.5
        self.places = keep(
            self.places,
            self.picture(),
            odometer=torch.tensor([[self.at]]),
            step=torch.tensor([[way]]),
            look=torch.tensor([self.look]),
            stamp=torch.tensor([[stamp]]),
            landmark=standing,
            camera=self.camera,
        )

    def recall(self, at: int | None = None) -> Recalled:
        at = self.at if at is None else at
        return recall(self.places, torch.tensor([[at]]), torch.tensor([self.look]), WIDTH, self.camera)


def known(seen: Recalled, layer: int) -> list[int]:
    """Cells of the picture that are known in a layer."""
    return seen.known[0, 0, layer].nonzero()[:, 0].tolist()


def test_nothing_is_known_before_anything_was_seen() -> None:
    seen = Walker().recall()
    assert not seen.known.any()
    assert not seen.views.any()


def test_a_camera_without_places_keeps_nothing() -> None:
    walker = Walker(replace(CAMERA, places=False))
    for _ in range(3):
        walker.step(1)
    assert not walker.recall().known.any()
    assert not walker.places.marks.any()


def test_all_but_the_heros_columns_is_known_once_it_was_seen() -> None:
    walker = Walker()
    walker.step()
    for layer in range(3):
        assert known(walker.recall(), layer) == [0, 1, 2, 3, 6, 7, 8, 9]


def test_a_place_is_found_again_in_its_layer_wherever_the_picture_has_moved() -> None:
    walker = Walker()
    for _ in range(8):
        walker.step(1)
    seen = walker.recall(at=11)
    x = torch.arange(WIDTH)
    near, middle = (seen.known[0, 0, layer] > 0 for layer in (NEAR, MIDDLE))
    assert near[:7].all()
    assert not near[7:].any(), "beyond what has been in the picture"
    assert torch.equal(seen.views[0, 0, NEAR, 0, 0][near], (11 + x).float()[near])
    assert torch.equal(seen.views[0, 0, MIDDLE, 1, 0][middle], (11 + 2 * x).float()[middle])
    assert middle.sum() >= 8, "the middle layer moves by half as much"


def test_a_layer_that_moves_by_half_cells_is_recalled_at_the_same_phase_only() -> None:
    walker = Walker()
    walker.step()  # at 0: even columns of the middle layer's grid
    assert known(walker.recall(at=1), MIDDLE) == []
    assert known(walker.recall(at=2), MIDDLE) == [0, 1, 2, 5, 6, 7, 8]


def test_the_first_view_stays() -> None:
    """The latest would be the picture's own last drawing, and fade with every one."""
    walker = Walker()
    for _ in range(3):
        walker.step()
    assert walker.recall().views[0, 0, NEAR, 2, 0, 0] == 1


def test_what_the_hero_hid_is_known_once_it_was_passed() -> None:
    walker = Walker()
    walker.step()
    walker.step(1)
    walker.step(1)
    assert known(walker.recall(), NEAR) == list(range(WIDTH))
    assert known(walker.recall(), FAR) == [0, 1, 2, 3, 6, 7, 8, 9]


def test_landmarks_hide_the_layers_behind_them() -> None:
    walker = Walker()
    walker.step(landmarks=(7, 8))
    seen = walker.recall()
    assert known(seen, NEAR) == [0, 1, 2, 3, 6, 7, 8, 9]
    assert known(seen, MIDDLE) == known(seen, FAR) == [0, 1, 2, 3, 6, 9]


def test_a_new_look_makes_old_views_old_and_takes_new_ones_when_it_has_settled() -> None:
    walker = Walker()
    walker.step()
    walker.look = 1.0
    before = walker.recall()
    assert before.known[0, 0, NEAR, 0] == 1, "better an old view than none"
    assert not before.current.any()
    walker.step(settled=False)
    walker.step(settled=False)
    during = walker.recall()
    assert during.views[0, 0, NEAR, 2, 0, 0] == 3, "the latest while it changes"
    assert not during.current.any()
    walker.step()
    walker.step()
    after = walker.recall()
    assert after.views[0, 0, NEAR, 2, 0, 0] == 4, "the first one that shows it whole"
    assert after.current[0, 0, NEAR, 0] == 1


def test_how_the_camera_moved_is_kept_with_a_view() -> None:
    walker = Walker()
    walker.step(-1)
    assert walker.recall().motion[0, 0, NEAR, 0] == -1


def test_what_a_ring_behind_was_is_forgotten_not_mistaken() -> None:
    walker = Walker()
    walker.step()
    assert not walker.recall(at=CAMERA.columns).known[0, 0, NEAR].any()
    for _ in range(CAMERA.columns):
        walker.step(1)
    assert not walker.recall(at=0).known[0, 0, NEAR].any()


def test_left_of_the_beginning_works_as_well() -> None:
    walker = Walker()
    for _ in range(5):
        walker.step(-1)
    assert known(walker.recall(at=-3), NEAR) == list(range(WIDTH))


@pytest.mark.parametrize("columns", [64, 128])
def test_the_size_of_the_rings_changes_nothing_within_them(columns: int) -> None:
    walker = Walker(replace(CAMERA, columns=columns))
    for way in (1, 1, 1, -1, 0, -1):
        walker.step(way)
    small = Walker(replace(CAMERA, columns=32))
    for way in (1, 1, 1, -1, 0, -1):
        small.step(way)
    for a, b in zip(walker.recall(), small.recall(), strict=True):
        assert torch.equal(a, b)


def test_rows_of_a_batch_do_not_mix() -> None:
    first, second = Walker(), Walker()
    second.step(1)
    second.step(1)
    first.step()
    both = Places(*(torch.cat(pair) for pair in zip(first.places, second.places, strict=True)))
    at = torch.tensor([[first.at], [second.at]])
    seen = recall(both, at, torch.zeros(2), WIDTH, CAMERA)
    for row, one in enumerate((first, second)):
        for a, b in zip(seen, one.recall(), strict=True):
            assert torch.equal(a[row], b[0])
