"""The vocabulary of captions: what each value may be called, and which words are kept for testing.

Data only; how they are put together is `captions`. Every list has reserved words that training never says,
and no form of one value is a form of another. Tuples follow PLACES, TIMES, WEATHERS, HEROES, COLOURS.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Words(NamedTuple):
    train: tuple[str, ...]
    held: tuple[str, ...]


class Place(NamedTuple):
    nouns: Words  # "preposition article|noun"
    adjectives: Words


class When(NamedTuple):
    phrases: Words
    nouns: Words
    adjectives: Words


class Weather(NamedTuple):
    phrases: Words
    nouns: Words
    adjectives: Words
    clauses: Words


def choices(train: str, held: str) -> Words:
    return Words(tuple(train.split(", ")), tuple(held.split(", ")))


PLACES: Final = (
    Place(
        choices(
            "in a|meadow, across the|meadow, over the|rolling hills, across the|grassland, "
            "in a|field of flowers, "
            "through the|flowery fields, over|grassy hills, in the|countryside, through the|pastures, "
            "in a|grassy valley, on a|hillside with flowers",
            "on the|prairie, through|lush farmland, across the|heath",
        ),
        choices("grassy, rural, flowery", "pastoral"),
    ),
    Place(
        choices(
            "in a|forest, through the|forest, through the|woods, in the|woodland, among the|fir trees, "
            "between|tall firs, in a|pine forest, among the|pines, in the|deep woods, past the|conifers, "
            "in a|wooded valley",
            "through the|spruce thicket, in the|timberland, in the|taiga",
        ),
        choices("wooded, woodland, forested", "sylvan"),
    ),
    Place(
        choices(
            "in a|desert, through the|desert, through the|dunes, across the|sand dunes, over|desert sand, "
            "among the|cacti, in the|sahara, in an|arid land, on the|sandy plain, in the|drylands, "
            "past the|mesas",
            "across the|badlands, in the|mojave, in the|outback",
        ),
        choices("arid, desert, parched", "sun-baked"),
    ),
    Place(
        choices(
            "on a|snowfield, across the|snowfield, across the|snow plain, on the|arctic plain, "
            "in the|arctic, "
            "across the|frozen tundra, over the|ice field, through the|polar wastes, "
            "below|snow-capped mountains, "
            "in the|frozen north, on a|glacier",
            "across the|permafrost, in|antarctica, over the|ice sheet",
        ),
        choices("arctic, icy, polar", "glacial"),
    ),
    Place(
        choices(
            "on a|beach, along the|beach, by the|sea, along the|shore, at the|seaside, by the|ocean, "
            "on a|tropical island, along the|coast, under the|palm trees, on the|sandy shore, "
            "on a|palm beach",
            "by the|lagoon, beside the|surf, along the|strand",
        ),
        choices("coastal, tropical, seaside", "oceanside"),
    ),
    Place(
        choices(
            "in a|city, through the|city, through the|streets, in the|town centre, among the|skyscrapers, "
            "in a|metropolis, on a|city street, along the|avenue, in the|big city, past the|city skyline, "
            "between|tall buildings",
            "in a|megacity, along the|boulevard, past the|high-rises",
        ),
        choices("urban, city, downtown", "metropolitan"),
    ),
    Place(
        choices(
            "near a|volcano, past the|volcanoes, in a|volcanic land, among|lava streams, "
            "across the|lava field, "
            "by a|river of lava, over|molten rock, in the|land of fire, past an|erupting volcano, "
            "over|cracked lava rock, below the|smoking craters of fire",
            "over the|magma, inside a|caldera, in the|brimstone wastes",
        ),
        choices("volcanic, fiery, lava-filled", "smouldering"),
    ),
    Place(
        choices(
            "on the|moon, across the|moon, across the|lunar surface, among the|moon craters, over|moon dust, "
            "on the|lunar plain, across a|moonscape, on a|cratered plain, in the|lunar desolation, "
            "on the|surface of the moon, in|outer space",
            "across the|regolith, in the|sea of tranquility, on an|airless world",
        ),
        choices("lunar, cratered, moonlike", "selenic"),
    ),
)

TIMES: Final = (
    When(
        choices(
            "at dawn, at sunrise, at daybreak, in the early morning, as the sun rises, "
            "at first light, in the morning",
            "at cockcrow, as day breaks",
        ),
        choices("dawn, sunrise, daybreak, early morning, morning", "sunup"),
        choices("early-morning, sunrise", "auroral"),
    ),
    When(
        choices(
            "at noon, at midday, by day, in broad daylight, in the daytime, under the midday sun, "
            "in the middle of the day",
            "at lunchtime, with the sun at its zenith",
        ),
        choices("noon, midday, daytime, daylight, day", "noontide"),
        choices("midday, daylit", "noontime"),
    ),
    When(
        choices(
            "at dusk, at sunset, at sundown, in the evening, as the sun sets, at twilight, "
            "in the evening glow",
            "at nightfall, in the gloaming",
        ),
        choices("dusk, sunset, sundown, evening, twilight", "eventide"),
        choices("evening, sunset", "crepuscular"),
    ),
    When(
        choices(
            "at night, by night, at midnight, after dark, under the stars, "
            "in the middle of the night, late at night",
            "in the dead of night, in the small hours",
        ),
        choices("night, midnight, starry night, late night, darkness", "nighttime"),
        choices("midnight, moonlit", "nocturnal"),
    ),
)

WEATHERS: Final = (
    Weather(
        choices(
            "in clear weather, under a clear sky, under clear skies, in fine weather, "
            "in dry weather, in clear air",
            "in fair conditions, under an untroubled sky",
        ),
        choices("clear weather, clear sky, clear skies, fine weather, dry weather", "fair conditions"),
        choices("clear, dry", "fair"),
        choices("the sky is clear, the weather is fine, it is dry", "the skies are untroubled"),
    ),
    Weather(
        choices(
            "in the rain, in heavy rain, in pouring rain, in a downpour, in the drizzle, under rain clouds",
            "in a cloudburst, amid the deluge",
        ),
        choices("rain, heavy rain, pouring rain, downpour, drizzle, showers", "rainstorm"),
        choices("rainy, wet, rain-soaked", "drizzly"),
        choices("it is raining, it rains, rain is falling", "it is bucketing down"),
    ),
    Weather(
        choices(
            "in falling snow, in the snow, in a snowstorm, in a blizzard, with snowflakes falling, "
            "in light snowfall",
            "in a flurry, amid drifting flakes",
        ),
        choices("snow, snowfall, falling snow, snowstorm, blizzard, snowflakes", "flurries"),
        choices("snowy, snowing", "snowswept"),
        choices("it is snowing, it snows, snow is falling", "flakes are drifting down"),
    ),
    Weather(
        choices(
            "in the fog, in thick fog, in the mist, in a haze, shrouded in mist, in dense fog",
            "in the murk, lost in vapour",
        ),
        choices("fog, mist, thick fog, haze, dense fog", "murk"),
        choices("foggy, misty, hazy", "fogbound"),
        choices("it is foggy, it is misty, fog lies over everything", "the air is murky"),
    ),
)

HEROES: Final = (
    choices("ball, round ball, rubber ball, little ball, sphere", "orb, globe"),
    choices("cube, box, block, little cube, square block", "crate, cuboid"),
    choices("fox, little fox, young fox, fox cub, clever fox", "vixen, reynard"),
    choices("robot, little robot, android, droid, bot", "automaton, cyborg"),
    choices("bird, little bird, songbird, small bird, birdie", "sparrow, finch"),
    choices("balloon, toy balloon, party balloon, little balloon, helium balloon", "inflatable, aerostat"),
)
ANYBODY: Final = ("hero", "character", "figure")

COLOURS: Final = (
    choices("red, bright red, scarlet, ruby, cherry-red", "crimson, vermilion"),
    choices("orange, bright orange, tangerine, amber, pumpkin-coloured", "apricot, carrot-coloured"),
    choices("yellow, bright yellow, golden, lemon-yellow, sunflower-yellow", "canary, mustard"),
    choices("green, bright green, emerald, lime-green, leaf-green", "jade, viridian"),
    choices("blue, bright blue, azure, sapphire, royal-blue", "cobalt, ultramarine"),
    choices("purple, bright purple, violet, plum-coloured, lilac", "amethyst, aubergine"),
    choices("white, snow-white, ivory, milk-white, chalk-white", "alabaster, pearly"),
    choices("black, jet-black, coal-black, ebony, pitch-black", "onyx, sable"),
)
