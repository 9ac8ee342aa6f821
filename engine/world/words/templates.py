"""Layouts of captions. A template states all facts, or returns None if it cannot.

A template's docstring is an example of it. Two entries of the lists appear twice, since people write that way
most often. Held templates are kept for testing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from engine.world.words.phrases import Facts, with_article

ACTOR: Final = ("hero", "colour", "motion")
OPENINGS: Final = (
    "there is", "we see", "show me", "now", "a picture of", "i want", "i would like to see", "a video of",
    "please show me", "let me see", "what about", "how about", "give me", "can we have", "it shows",
    "and now",
    "here is", "once there was", "make it", "change to", "a film with", "a short clip of",
)  # fmt: skip
JOURNEYS: Final = (
    "take me to", "let's go to", "bring us to", "switch to", "go to", "let us see", "show me",
    "i want to see",
    "we are in", "now we are in", "change the place to", "this is", "move to", "put us in",
)  # fmt: skip


def plain(f: Facts) -> str | None:
    """a red fox trots left through the dunes at night"""
    return " ".join([f.clause(), *f.circumstances()]) if f.says(*ACTOR) else None


def fronted(f: Facts) -> str | None:
    """at night, a red fox trots left through the dunes"""
    first, *rest = f.circumstances() or [""]
    return f"{first}, {' '.join([f.clause(), *rest])}" if first and f.says(*ACTOR) else None


def participle(f: Facts) -> str | None:
    """there is a red fox trotting left through the dunes"""
    opening = f.rng.choice(OPENINGS)
    return " ".join([opening, f.actor(), *f.circumstances()]) if f.says(*ACTOR) else None


def listed(f: Facts) -> str | None:
    """night, heavy rain, robot, city"""
    separator = f.rng.choice((", ", ", ", " "))
    return separator.join(f.keywords(bare=separator != " "))


def attributed(f: Facts) -> str | None:
    """snowy city at night with a red fox"""
    if not f.says("place"):
        return None
    _, article, noun = f.place()
    adjectives = [f.weather_adjective()] if f.says("weather") else []
    time_first = f.says("time") and f.rng.random() < 0.3
    if time_first:
        adjectives.append(f.time_adjective())
    scene = " ".join([*adjectives, noun])
    if article in ("a", "an") and f.rng.random() < 0.5:
        scene = with_article(scene)
    elif article == "the" and f.rng.random() < 0.5:
        scene = f"the {scene}"
    if f.says("time") and not time_first:
        scene = f"{scene} {f.when()}"
    if not f.says(*ACTOR):
        return scene
    return f"{scene}{f.rng.choice((' with ', ', ', ' and '))}{f.actor()}"


def scenery(f: Facts) -> str | None:
    """an arid landscape in the rain at dusk, a robot walking left"""
    if not f.says("place"):
        return None
    kind = f.rng.choice(("landscape", "scene", "world", "scenery", "view"))
    scene = with_article(f"{f.place_adjective()} {kind}")
    tail = f"{f.rng.choice((', ', ' with '))}{f.actor()}" if f.says(*ACTOR) else ""
    return " ".join([scene, *f.circumstances("place")]) + tail


def hourly(f: Facts) -> str | None:
    """a foggy night in the city, a robot walks left"""
    if not f.says("time"):
        return None
    hour = f"{f.weather_adjective()} {f.hour()}" if f.says("weather") else f.hour()
    scene = " ".join([hour, *([f.where()] if f.says("place") else [])])
    return f"{scene}, {f.clause()}" if f.says(*ACTOR) else scene


def stated(f: Facts) -> str | None:
    """it is raining at night in the city, a robot walks left"""
    if not f.says("weather"):
        return None
    scene = " ".join([f.weather_clause(), *f.circumstances("weather")])
    if not f.says(*ACTOR):
        return scene
    joint = f.rng.choice((", ", " and ", " while ")) if f.says("motion") else ", "
    return f"{scene}{joint}{f.clause()}"


def commanded(f: Facts) -> str | None:
    """take me to the city at night in the rain"""
    if not f.says("place"):
        return None
    _, article, noun = f.place()
    opening = f.rng.choice(JOURNEYS)
    scene = " ".join(filter(None, [opening, article, noun, *f.circumstances("place")]))
    return f"{scene} with {f.actor()}" if f.says(*ACTOR) else scene


def headed(f: Facts) -> str | None:
    """in the city at night: a robot walking left"""
    around = f.circumstances()
    return f"{' '.join(around)}: {f.actor()}" if around and f.says(*ACTOR) else None


def around(f: Facts) -> str | None:
    """in the city in the rain at night"""
    return None if f.says(*ACTOR) else " ".join(f.circumstances())


def scattered(f: Facts) -> str | None:
    """at night in the city a robot walking left in the rain"""
    pieces = [
        *f.circumstances(),
        *([f.actor() if f.rng.random() < 0.5 else f.clause()] if f.says(*ACTOR) else []),
    ]
    f.rng.shuffle(pieces)
    return f.rng.choice((" ", " ", ", ", " and ")).join(pieces)


def related(f: Facts) -> str | None:
    """a robot that is red and walks left through the city; the robot is red, it walks left"""
    if not f.says("colour"):
        return None
    who, colour = f.with_colour_apart()
    does = f.verb() if f.says("motion") else None
    if f.rng.random() < 0.5:
        told = f"{with_article(who)} that is {colour}{f' and {does[0]}' if does else ''}"
    else:
        told = (
            f"the {who} is {colour}{f.rng.choice((' and ', ', it ', ' and it ')) + does[0] if does else ''}"
        )
    return " ".join([told, *f.circumstances()])


def postponed(f: Facts) -> str | None:
    """robot red, city, night, walking left"""
    if not f.says("colour"):
        return None
    who, colour = f.with_colour_apart()
    items = [f"{who}{f.rng.choice((' ', ', ', ' in '))}{colour}", *f.circumstances()]
    items += [f.verb()[1]] if f.says("motion") else []
    f.rng.shuffle(items)
    return ", ".join(items)


def requested(f: Facts) -> str | None:
    """make it night and let it rain, turn into a fox, go left"""
    choose, asked = f.rng.choice, []
    if f.says("place"):
        _, article, noun = f.place()
        asked.append(" ".join(filter(None, [choose(JOURNEYS), article, noun])))
    if f.says("time"):
        asked.append(
            f"{choose(('make it', 'let it be', 'change the time to', 'now it is', 'it becomes'))} {f.hour()}"
        )
    if f.says("weather"):
        opening = choose(
            ("let there be", "change the weather to", "now we get", "here comes", "i want", "add")
        )
        asked.append(
            f"{opening} {f.weather()}" if f.rng.random() < 0.7 else f"make it {f.weather_adjective()}"
        )
    if f.says("hero"):
        opening = choose(
            ("turn into", "become", "let the hero be", "change the hero to", "i want to be", "be")
        )
        asked.append(f"{opening} {with_article(f.who())}")
    elif f.says("colour"):
        opening = choose(("make it", "paint it", "turn", "change the colour to", "it becomes", "now it is"))
        asked.append(f"{opening} {f.colour()}")
    if f.says("motion"):
        asked.append(f.command())
    f.rng.shuffle(asked)
    return choose((" and ", ", ", ", then ", " and then ")).join(asked)


def ordered(f: Facts) -> str | None:
    """walk left through the city at night as a red robot"""
    if not f.says("motion"):
        return None
    who = f" as {with_article(f.who())}" if f.says("hero", "colour") else ""
    return " ".join([f.command(), *f.circumstances()]) + who


def tabulated(f: Facts) -> str | None:
    """place: city; time: night; hero: robot"""
    rows = []
    if f.says("place"):
        rows.append(f"place: {f.place()[2]}")
    if f.says("time"):
        rows.append(f"time: {f.hour()}")
    if f.says("weather"):
        rows.append(f"weather: {f.weather()}")
    if f.says("hero", "colour"):
        rows.append(f"who: {f.who()}")
    if f.says("motion"):
        rows.append(f"doing: {f.verb()[1]}")
    f.rng.shuffle(rows)
    return "; ".join(rows)


def imagined(f: Facts) -> str | None:
    """imagine this: in the city at night there appears a robot walking left"""
    if not f.says(*ACTOR):
        return f"imagine being there {' '.join(f.circumstances())}"
    return " ".join(["imagine this:", *f.circumstances(), "there appears", f.actor()])


def chopped(f: Facts) -> str | None:
    """a robot. walking left. at night. in the city."""
    pieces = [f.a_hero()] if f.says("hero", "colour") else []
    pieces += [f.verb()[1]] if f.says("motion") else []
    return ". ".join([*pieces, *f.circumstances()]) + "."


Template = Callable[[Facts], "str | None"]
TEMPLATES: Final[tuple[Template, ...]] = (
    plain, plain, fronted, participle, listed, listed, attributed, scenery, hourly, stated, commanded, headed,
    around, scattered, scattered, related, postponed, requested, requested, ordered,
)  # fmt: skip
HELD_TEMPLATES: Final[tuple[Template, ...]] = (tabulated, imagined, chopped)
