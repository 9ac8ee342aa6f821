"""What heroes do, in words that fit them: balls roll, birds fly. Reserved words as in `words`."""

from __future__ import annotations

from typing import Final, NamedTuple

from engine.world.words import Words, choices


class Verbs(NamedTuple):
    """Pairs "walks/walking"."""

    go: Words
    jump: Words
    wait: Words


_MOVE = "moves/moving, goes/going, heads/heading, travels/travelling, "
_LEAP = (
    "jumps/jumping, leaps/leaping, hops/hopping, springs up/springing up, "
    "jumps into the air/jumping into the air"
)
_WAIT = "waits/waiting, stays put/staying put, rests/resting, pauses/pausing, does not move/not moving"
_STAND = _WAIT + ", stands still/standing still"
_HOVER = _WAIT + ", hovers in place/hovering in place"
_LEAP_HELD = "vaults up/vaulting up, bounds upwards/bounding upwards"
_WAIT_HELD = "lingers/lingering, idles/idling"

VERBS: Final = (
    Verbs(
        choices(_MOVE + "rolls/rolling, keeps rolling/rolling on", "trundles/trundling"),
        choices(_LEAP + ", bounces/bouncing", _LEAP_HELD),
        choices(_WAIT + ", lies still/lying still", _WAIT_HELD),
    ),
    Verbs(
        choices(_MOVE + "walks/walking, shuffles/shuffling", "waddles/waddling"),
        choices(_LEAP, _LEAP_HELD),
        choices(_STAND, _WAIT_HELD),
    ),
    Verbs(
        choices(
            _MOVE + "walks/walking, trots/trotting, runs/running", "scampers/scampering, prowls/prowling"
        ),
        choices(_LEAP, _LEAP_HELD),
        choices(_STAND, _WAIT_HELD),
    ),
    Verbs(
        choices(
            _MOVE + "walks/walking, marches/marching, strides/striding", "trudges/trudging, plods/plodding"
        ),
        choices(_LEAP, _LEAP_HELD),
        choices(_STAND, _WAIT_HELD),
    ),
    Verbs(
        choices(
            _MOVE + "flies/flying, flutters/fluttering, flaps/flapping",
            "soars/soaring, wings its way/winging its way",
        ),
        choices(_LEAP, _LEAP_HELD),
        choices(_HOVER, _WAIT_HELD),
    ),
    Verbs(
        choices(_MOVE + "floats/floating, drifts/drifting", "wafts/wafting"),
        choices(_LEAP, _LEAP_HELD),
        choices(_HOVER, _WAIT_HELD),
    ),
)
"""In the order of HEROES."""

ANY_VERBS: Final = Verbs(
    choices(_MOVE + "walks/walking, wanders/wandering", "strolls/strolling, ambles/ambling"),
    choices(_LEAP, _LEAP_HELD),
    choices(_STAND, _WAIT_HELD),
)

LEFT: Final = choices(
    "left, to the left, leftwards, towards the left", "to the left-hand side, back leftward"
)
RIGHT: Final = choices(
    "right, to the right, rightwards, towards the right", "to the right-hand side, onward rightward"
)
