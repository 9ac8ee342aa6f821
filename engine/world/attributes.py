"""The vocabulary of Wander: attributes of a scene, actions, landmarks, and sizes of the picture.

It has neither torch nor behaviour, so that captions, servers and tools can import it at no cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

PLACES: Final = ("meadow", "forest", "desert", "snowfield", "beach", "city", "volcano", "moon")
TIMES: Final = ("dawn", "noon", "dusk", "night")
WEATHERS: Final = ("clear", "rain", "snow", "fog")
HEROES: Final = ("ball", "cube", "fox", "robot", "bird", "balloon")
COLOURS: Final = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
ACTIONS: Final = ("idle", "left", "right", "jump")
LANDMARKS: Final = ("tree", "house", "tower", "windmill", "rock", "lamp", "sign", "statue")

FIELDS: Final = ("place", "time", "weather", "hero", "colour")
"""The attributes of a scene, in the order in which tensors store them."""

VALUES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"place": PLACES, "time": TIMES, "weather": WEATHERS, "hero": HEROES, "colour": COLOURS}
)

HEIGHT: Final = 96
WIDTH: Final = 160
FPS: Final = 16
FRAMES_PER_LATENT: Final = 4
WALK_PX_PER_FRAME: Final = 2
"""One latent cell (8 px) per latent frame, so that the near layer moves by whole cells."""
JUMP_FRAMES: Final = 8
JUMP_HEIGHT_PX: Final = 20
LANDMARK_SPACING_PX: Final = 107
LANDMARK_JITTER_PX: Final = 12
"""The largest distance of landmark n from n + 1/2 spacings. A spacing is about two thirds of a screen."""
HERO_X: Final = 80
"""The hero's column on the screen. It is fixed, since the camera follows."""
