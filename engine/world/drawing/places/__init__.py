"""One file per place: its air and how its backdrop is painted, back to front.

A place paints far layer (which stands still), middle layer (half the camera's speed) and ground (all of it),
calling `scene.veil` between them for fog. Landmarks, heroes and weather are nobody's business here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from engine.world.drawing.light import Climate
from engine.world.drawing.places import beach, city, desert, forest, meadow, moon, snowfield, volcano
from engine.world.drawing.scene import Scene


class Place(NamedTuple):
    climate: Climate
    paint: Callable[[Scene], None]


# In the order of attributes.PLACES.
BACKDROPS: Final = tuple(
    Place(module.CLIMATE, module.paint)
    for module in (meadow, forest, desert, snowfield, beach, city, volcano, moon)
)
