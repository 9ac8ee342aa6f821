"""The camera's position in a batch of chains, and structure W's memory while their segments are processed.

Legend: B chains, S segments of a chain, W latent frames of a segment, C h w latent, M landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from torch import Tensor

from engine.model.conditions import Conditions
from engine.model.config import CameraConfig, ModelConfig
from engine.model.wander.hints import Way, hints, planned, present, scenery, way
from engine.model.wander.places import UNSETTLED, Places, keep
from engine.training.data.latents import Pool
from engine.training.data.windows import Windows, gather
from engine.world.motion import walk_and_jump

SETTLED = 6  # latent frames until a change of the prompt is complete
COLUMNS = 128  # columns of a ring in training, which is more than an episode walks


class Withheld(NamedTuple):
    """Shares of the chains from which planned landmarks are withheld."""

    all: float = 0.05
    at_start: float = 0.10  # those on the screen at the start of the scene, as after a start picture


@dataclass(frozen=True)
class Course:
    odometer: Tensor  # (B,) int64, before the chain's first segment
    acted: Tensor  # (B, W) int64, the actions of the segment before it
    look: Tensor  # (B, S) number of the current prompt
    stamp: Tensor  # (B, S, W) the look stored with a view: another number during a change
    landmarks: Tensor  # (B, M, 4)
    places: Places  # before the chain

    def to(self, device: torch.device | str) -> Course:
        return Course(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def small(camera: CameraConfig) -> CameraConfig:
    """The same camera with rings that are just large enough for an episode."""
    return replace(camera, columns=min(camera.columns, COLUMNS))


@torch.no_grad()
def course_of(
    pool: Pool, windows: Windows, segments: int, c: ModelConfig, withheld: Withheld | None = None
) -> Course:
    """The course of chains of `segments` segments that start at these windows."""
    assert c.camera is not None
    assert pool.odometer is not None
    assert pool.landmarks is not None
    camera, w = small(c.camera), c.segment
    rows, start = windows.episode, windows.start
    actions, attributes = pool.actions[rows], pool.attributes[rows]
    changed = torch.zeros_like(actions, dtype=torch.bool)
    changed[:, 1:] = (attributes[:, 1:] != attributes[:, :-1]).any(-1)
    look = changed.long().cumsum(1).float()
    at = torch.arange(actions.shape[1])
    age = at - torch.where(changed, at, -SETTLED).cummax(1).values
    stamp = torch.where((age >= SETTLED) | (look == 0), look, look - UNSETTLED)
    # A scene that starts here has no earlier look to change from.
    fresh = windows.scene[:, None]
    began = (at >= fresh) & (look == look.gather(1, fresh))
    stamp = torch.where(began, look, stamp)
    step = walk_and_jump(actions)[0]
    odometer = pool.odometer[rows]
    before = odometer.gather(1, start[:, None]) - step.gather(1, start[:, None])
    landmarks = _withhold(pool.landmarks[rows], odometer.gather(1, fresh), camera, withheld or Withheld())
    within = start[:, None] + torch.arange(segments * w)
    earlier = start[:, None] + torch.arange(-w, 0)
    acted = torch.where(earlier >= 0, actions.gather(1, earlier.clamp(min=0)), 0)

    places = Places.empty(len(start), c.channels, c.latent_height, camera)
    remembered = int((start - windows.scene).max()) if camera.places else 0
    for back in range(remembered, 0, -1):
        f = (start - back)[:, None]
        inside = f >= fresh
        f = f.clamp(min=0)
        frame = gather(pool, rows, f).cpu()
        position, moved, seen_look, seen_stamp = (v.gather(1, f) for v in (odometer, step, look, stamp))
        after = keep(
            places,
            frame,
            odometer=position,
            step=moved,
            look=seen_look[:, 0],
            stamp=seen_stamp,
            landmark=present(planned(landmarks, position, c.latent_width, camera)),
            camera=camera,
        )
        places = Places(
            *(
                torch.where(inside.reshape(-1, *[1] * (b.ndim - 1)), a, b)
                for a, b in zip(after, places, strict=True)
            )
        )
    return Course(
        odometer=before[:, 0],
        acted=acted,
        look=look.gather(1, within[:, w - 1 :: w]),
        stamp=stamp.gather(1, within).unflatten(1, (segments, w)),
        landmarks=landmarks,
        places=places,
    )


def _withhold(landmarks: Tensor, scene: Tensor, camera: CameraConfig, withheld: Withheld) -> Tensor:
    """Remove the landmarks that are withheld from a chain. scene (B, 1) is the odometer at the start of the
    scene."""
    b = len(landmarks)
    dice = torch.rand(b, 1)
    on_screen = (landmarks[..., 0] - scene * camera.cell_px).abs() < camera.hero_px + 30
    hidden = (dice < withheld.all) | ((dice < sum(withheld)) & on_screen)
    out = landmarks.clone()
    out[..., 1] = torch.where(hidden, 0.0, out[..., 1])
    return out


class RunningPlaces:
    """Structure W along a batch of chains, as a session keeps it. It passes no gradients."""

    def __init__(self, walk: Course, actions: Tensor, c: ModelConfig) -> None:
        """actions (B, S, W)."""
        assert c.camera is not None
        self.walk, self.actions, self.c, self.camera = walk, actions, c, small(c.camera)
        self.places, self.odometer, self.acted, self.number = walk.places, walk.odometer, walk.acted, 0
        self._position: Way | None = None

    def with_hints(self, given: Conditions) -> Conditions:
        """Add the next segment's hints and scenery to its conditions."""
        columns = scenery(self.position().odometer, self.c.latent_width, self.camera)
        return replace(given, hints=self.hints(given.history, given.context), scenery=columns)

    def hints(self, history: Tensor, context: Tensor) -> Tensor:
        """Hints for the next segment, (B, W, H, h, w)."""
        return hints(
            history,
            context,
            where=self.position(),
            places=self.places,
            look=self.walk.look[:, self.number],
            landmarks=self.walk.landmarks,
            camera=self.camera,
        )

    @torch.no_grad()
    def update(self, segment: Tensor) -> None:
        """Keep the views of this segment (B, W, C, h, w) and continue with the next."""
        where, k = self.position(), self.number
        plan = planned(self.walk.landmarks, where.odometer, segment.shape[-1], self.camera)
        self.places = keep(
            self.places,
            segment,
            odometer=where.odometer,
            step=where.step,
            look=self.walk.look[:, k],
            stamp=self.walk.stamp[:, k],
            landmark=present(plan),
            camera=self.camera,
        )
        self.odometer, self.acted, self.number = where.odometer[:, -1], self.actions[:, k], k + 1
        self._position = None

    def position(self) -> Way:
        """The camera's position in the next segment. Computed once per segment."""
        if self._position is None:
            self._position = way(self.odometer, self.acted, self.actions[:, self.number], self.c)
        return self._position
