"""The names of places, and the notation that they are written in. `names` holds those of the other values."""

from __future__ import annotations

from typing import Final, NamedTuple


class SplitWords(NamedTuple):
    train: tuple[str, ...]
    held: tuple[str, ...]


class PlaceWords(NamedTuple):
    nouns: SplitWords  # "preposition article|noun"
    adjectives: SplitWords


def choices(train: str, held: str) -> SplitWords:
    return SplitWords(tuple(train.split(", ")), tuple(held.split(", ")))


PLACES: Final = (
    PlaceWords(
        choices(
            "in a|meadow, across the|meadow, over the|rolling hills, across the|grassland, "
            "in a|field of flowers, "
            "through the|flowery fields, over|grassy hills, in the|countryside, through the|pastures, "
            "in a|grassy valley, on a|hillside with flowers, "
            "in the|grass, across the|green fields, in the|tall grass, on a|lawn, in a|park, "
            "through the|hay fields, in a|clover field, among the|wildflowers, across|gentle hills, "
            "on the|grassy plains, on the|village green, in a|daisy field, on a|moor, past|grazing "
            "land, among|poppies and daisies, in the|dale, in an|orchard, in the|open fields, "
            "between|hedges and fields, in a|garden",
            "on the|prairie, through|lush farmland, across the|heath",
        ),
        choices("grassy, rural, flowery, verdant, meadowy, bucolic, country", "pastoral"),
    ),
    PlaceWords(
        choices(
            "in a|forest, through the|forest, through the|woods, in the|woodland, among the|fir trees, "
            "between|tall firs, in a|pine forest, among the|pines, in the|deep woods, past the|conifers, "
            "in a|wooded valley, "
            "in a|jungle, in the|rainforest, in a|grove, among the|oaks, among|birch trees, under "
            "the|leafy canopy, in a|beech wood, among|tall trees, between the|trees, through "
            "the|undergrowth, among the|redwoods, in the|backwoods, beneath|old oaks, in a|thick "
            "forest, through the|copse, along a|forest trail, among|mossy trunks, in an|evergreen "
            "forest, among the|ferns, in an|enchanted forest",
            "through the|spruce thicket, in the|timberland, in the|taiga",
        ),
        choices("wooded, woodland, forested, leafy, tree-covered, jungly, tree-filled", "sylvan"),
    ),
    PlaceWords(
        choices(
            "in a|desert, through the|desert, through the|dunes, across the|sand dunes, over|desert sand, "
            "among the|cacti, in the|sahara, in an|arid land, on the|sandy plain, in the|drylands, "
            "past the|mesas, "
            "across the|barren waste, in the|gobi, in the|kalahari, in the|wasteland, over the|salt "
            "flats, through a|canyon, among|sandstone cliffs, past an|oasis, on the|parched plain, "
            "in the|dry wilderness, in|arabia, over|dusty ground, through|endless dunes, in "
            "the|scrubland, across the|dusty flats, past|dry riverbeds, among|cactuses, in the|hot "
            "sands, in the|wild west, past the|pyramids",
            "across the|badlands, in the|mojave, in the|outback",
        ),
        choices("arid, desert, parched, dusty, waterless, barren, saharan", "sun-baked"),
    ),
    PlaceWords(
        choices(
            "on a|snowfield, across the|snowfield, across the|snow plain, on the|arctic plain, "
            "in the|arctic, "
            "across the|frozen tundra, over the|ice field, through the|polar wastes, "
            "below|snow-capped mountains, "
            "in the|frozen north, on a|glacier, "
            "in|greenland, in|siberia, in|lapland, at the|north pole, at the|south pole, "
            "through|snowdrifts, on the|icecap, on a|frozen lake, in a|winter landscape, in "
            "a|winter wonderland, across the|snow-covered plain, on|snowy peaks, among|icebergs, on "
            "a|ski slope, in the|alps, in the|eternal ice, on the|pack ice, in|alaska, through|deep "
            "snow, across a|snow-covered field",
            "across the|permafrost, in|antarctica, over the|ice sheet",
        ),
        choices("arctic, icy, polar, frozen, wintry, frosty, ice-covered, snow-covered", "glacial"),
    ),
    PlaceWords(
        choices(
            "on a|beach, along the|beach, by the|sea, along the|shore, at the|seaside, by the|ocean, "
            "on a|tropical island, along the|coast, under the|palm trees, on the|sandy shore, "
            "on a|palm beach, "
            "on the|seashore, by the|waves, at the|bay, in a|cove, on the|riviera, in|hawaii, at "
            "the|water's edge, on an|island, on a|coral island, in the|caribbean, past "
            "the|lighthouse, over the|ocean, above the|waves, beside the|breakers, along the|pier, "
            "on the|seafront, near the|tide pools, on the|shoreline, in|malibu, along "
            "the|coastline, by the|seaside, on the|waterfront",
            "by the|lagoon, beside the|surf, along the|strand",
        ),
        choices("coastal, tropical, seaside, beachy, maritime, seafront, ocean", "oceanside"),
    ),
    PlaceWords(
        choices(
            "in a|city, through the|city, through the|streets, in the|town centre, among the|skyscrapers, "
            "in a|metropolis, on a|city street, along the|avenue, in the|big city, past the|city skyline, "
            "between|tall buildings, "
            "in the|town, in|new york, in|tokyo, in|london, in|paris, through the|suburbs, through "
            "the|alleys, along the|main street, across the|town square, in the|financial district, "
            "past|apartment blocks, past|office towers, among the|tower blocks, over the|rooftops, "
            "in|manhattan, in the|capital, on the|sidewalk, on the|pavement, in the|crowded "
            "streets, past the|neon signs, past|shops and traffic",
            "in a|megacity, along the|boulevard, past the|high-rises",
        ),
        choices("urban, city, downtown, municipal, built-up, big-city, inner-city, town", "metropolitan"),
    ),
    PlaceWords(
        choices(
            "near a|volcano, past the|volcanoes, in a|volcanic land, among|lava streams, "
            "across the|lava field, "
            "by a|river of lava, over|molten rock, in the|land of fire, past an|erupting volcano, "
            "over|cracked lava rock, below the|smoking craters of fire, "
            "over|burning rock, in the|lava land, across|glowing lava, in|mordor, on|mount etna, "
            "on|vesuvius, beside a|lava lake, over|volcanic ash, in a|volcanic crater, through|fire "
            "and ash, in the|inferno, in|hell, by the|fire mountain, across|scorched rock, "
            "over|rivers of fire, past|fountains of lava, over|burning ground, beneath the|ash "
            "cloud, on|krakatoa, past an|active volcano",
            "over the|magma, inside a|caldera, in the|brimstone wastes",
        ),
        choices("volcanic, fiery, lava-filled, molten, burning, infernal, hellish, scorched", "smouldering"),
    ),
    PlaceWords(
        choices(
            "on the|moon, across the|moon, across the|lunar surface, among the|moon craters, over|moon dust, "
            "on the|lunar plain, across a|moonscape, on a|cratered plain, in the|lunar desolation, "
            "on the|surface of the moon, in|outer space, "
            "in|space, on the|dark side of the moon, on the|far side of the moon, in the|vacuum of "
            "space, on|luna, on an|asteroid, on a|barren moon, past the|apollo landing site, in "
            "the|lunar highlands, among the|lunar craters, in the|cosmos, in|zero gravity, on "
            "a|rocky moon, on another|planet, on an|alien planet, past the|lunar lander, over|lunar "
            "soil, near the|moon base, in|low gravity, on the|rocky moon ground",
            "across the|regolith, in the|sea of tranquility, on an|airless world",
        ),
        choices("lunar, cratered, moonlike, extraterrestrial, cosmic, moon, space", "selenic"),
    ),
)
