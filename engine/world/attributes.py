"""The nouns of Wander: what a prompt can say, what a hero can do, how large the picture is.

No torch here and no behaviour, so that captions, servers and tools can import it for nothing.
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
"""The attributes of a scene, in the order in which tensors hold them."""

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
"""Landmark n stands within so many px of n + 1/2 spacings: about two thirds of a screen apart."""
HERO_X: Final = 80
"""The hero never leaves this column: the camera follows."""
