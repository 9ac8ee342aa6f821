"""Verbs for the heroes' motions that fit them: balls roll, birds fly. Reserved words are as in `names`."""

from __future__ import annotations

from typing import Final, NamedTuple

from engine.world.words.names import SplitWords, choices


def base(finite: str) -> str:
    """ "goes left" → "go left", the imperative."""
    verb, space, rest = finite.partition(" ")
    if verb.endswith("ies"):
        verb = f"{verb[:-3]}y"
    else:
        verb = verb[:-2] if verb.endswith(("oes", "shes", "ches", "sses")) else verb[:-1]
    return verb + space + rest


class Verbs(NamedTuple):
    """Pairs "walks/walking"."""

    go: SplitWords
    jump: SplitWords
    wait: SplitWords


_MOVE = (
    "moves/moving, goes/going, heads/heading, travels/travelling, advances/advancing, hurries/hurrying, "
    "races/racing, sets off/setting off, keeps going/keeping going, turns/turning, "
)
_LEAP = (
    "jumps/jumping, leaps/leaping, hops/hopping, springs up/springing up, "
    "jumps into the air/jumping into the air, jumps up/jumping up, jumps high/jumping high, leaps "
    "up/leaping up, "
    "hops up and down/hopping up and down, jumps up and down/jumping up and down, "
    "leaps into the air/leaping into the air, takes a leap/taking a leap, skips/skipping, "
    "makes a jump/making a jump, bounces up and down/bouncing up and down"
)
_WAIT = (
    "waits/waiting, stays put/staying put, rests/resting, pauses/pausing, does not move/not moving, "
    "stops/stopping, halts/halting, stays still/staying still, remains still/remaining still, "
    "freezes/freezing, holds still/holding still, stays in place/staying in place, sleeps/sleeping, "
    "takes a break/taking a break, does nothing/doing nothing, stops moving/stopping"
)
_STAND = _WAIT + ", stands still/standing still, sits/sitting, sits still/sitting still, stands/standing"
_HOVER = _WAIT + ", hovers in place/hovering in place"
_LEAP_HELD = "vaults up/vaulting up, bounds upwards/bounding upwards"
_WAIT_HELD = "lingers/lingering, idles/idling"

VERBS: Final = (
    Verbs(
        choices(
            _MOVE + "rolls/rolling, keeps rolling/rolling on, spins/spinning, tumbles/tumbling, "
            "rolls along/rolling along",
            "trundles/trundling",
        ),
        choices(_LEAP + ", bounces/bouncing", _LEAP_HELD),
        choices(_WAIT + ", lies still/lying still", _WAIT_HELD),
    ),
    Verbs(
        choices(
            _MOVE + "walks/walking, shuffles/shuffling, slides/sliding, crawls/crawling, toddles/toddling",
            "waddles/waddling",
        ),
        choices(_LEAP, _LEAP_HELD),
        choices(_STAND, _WAIT_HELD),
    ),
    Verbs(
        choices(
            _MOVE + "walks/walking, trots/trotting, runs/running, dashes/dashing, sneaks/sneaking, "
            "jogs/jogging, sprints/sprinting, gallops/galloping, creeps/creeping",
            "scampers/scampering, prowls/prowling",
        ),
        choices(_LEAP, _LEAP_HELD),
        choices(_STAND, _WAIT_HELD),
    ),
    Verbs(
        choices(
            _MOVE + "walks/walking, marches/marching, strides/striding, stomps/stomping, hikes/hiking, "
            "paces/pacing, runs/running, steps/stepping, lumbers/lumbering",
            "trudges/trudging, plods/plodding",
        ),
        choices(_LEAP, _LEAP_HELD),
        choices(_STAND, _WAIT_HELD),
    ),
    Verbs(
        choices(
            _MOVE + "flies/flying, flutters/fluttering, flaps/flapping, glides/gliding, sails/sailing, "
            "swoops/swooping, flits/flitting",
            "soars/soaring, wings its way/winging its way",
        ),
        choices(_LEAP, _LEAP_HELD),
        choices(_HOVER, _WAIT_HELD),
    ),
    Verbs(
        choices(
            _MOVE
            + "floats/floating, drifts/drifting, glides/gliding, sails/sailing, bobs/bobbing, flies/flying",
            "wafts/wafting",
        ),
        choices(_LEAP, _LEAP_HELD),
        choices(_HOVER, _WAIT_HELD),
    ),
)
"""In the order of HEROES."""

ANY_VERBS: Final = Verbs(
    choices(
        _MOVE + "walks/walking, wanders/wandering, runs/running, marches/marching, roams/roaming, "
        "saunters/sauntering, flies/flying, rolls/rolling, rambles/rambling, drives/driving",
        "strolls/strolling, ambles/ambling",
    ),
    choices(_LEAP, _LEAP_HELD),
    choices(_STAND, _WAIT_HELD),
)

LEFT: Final = choices(
    "left, left, to the left, leftwards, towards the left, over to the left, off to the left, from right to "
    "left, further left, to the left again, left and left again, westwards, leftways",
    "to the left-hand side, back leftward",
)
RIGHT: Final = choices(
    "right, right, to the right, rightwards, towards the right, over to the right, off to the right, from "
    "left to right, further right, to the right again, right and right again, eastwards, rightways",
    "to the right-hand side, onward rightward",
)
