"""The rungs of the bitrate ladder, from the best picture down to one for very slow links.

Pure arithmetic, shared by the worker, which encodes, and the gateway, which chooses a rung for each viewer.
"""

from __future__ import annotations

from typing import NamedTuple

SHARES = (1.0, 0.45, 0.2)  # fractions of the top rung's bitrate
SLIDES_SHARE, SLIDES_EVERY = 0.08, 4  # the lowest rung: fewer frames rather than none
LEAST_BPS = 30_000
LEAST_STEP = 0.75  # maximum ratio to the rung above; with a larger one the rung is not worth an encoder
LEAST_BITS_PER_PIXEL = 0.03  # below this, half the resolution looks better
LEAST_SIDE = 160


class Rung(NamedTuple):
    """`divide` divides both sides of the picture; one frame in `every` is sent."""

    bitrate_bps: int
    divide: int = 1
    every: int = 1


def ladder(top_bps: int, width: int, height: int, fps: int) -> tuple[Rung, ...]:
    """The rungs for a picture encoded at this size in pixels. There is always a top rung."""
    rungs: list[Rung] = []
    steps = [(share, 1) for share in SHARES] + [(SLIDES_SHARE, SLIDES_EVERY)]
    for share, every in steps:
        bitrate_bps = max(LEAST_BPS, int(top_bps * share))
        if rungs and bitrate_bps > LEAST_STEP * rungs[-1].bitrate_bps:
            continue
        bits_per_pixel = bitrate_bps * every / (width * height * fps)
        small = bits_per_pixel < LEAST_BITS_PER_PIXEL and min(width, height) >= 2 * LEAST_SIDE
        divided = bool(rungs) and (small or rungs[-1].divide > 1)
        rungs.append(Rung(bitrate_bps, 2 if divided else 1, every))
    return tuple(rungs)


def rendition(codec: str, rung: int) -> str:
    """The name of a codec at a rung: 'vp8' is the top rung, 'vp8/1' the next."""
    return f"{codec}/{rung}" if rung else codec


def parts(name: str) -> tuple[str, int]:
    """The codec and the rung of a rendition's name."""
    codec, _, rung = name.partition("/")
    return codec, int(rung or 0)
