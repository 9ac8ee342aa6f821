"""The vocabulary of captions: the names of each value, and the words that are kept for testing.

This is data; `captions` puts it together. Every list has reserved words, which training never uses, and no
name of one value is a name of another. Tuples follow PLACES, TIMES, WEATHERS, HEROES, COLOURS.
"""

from __future__ import annotations

from typing import Final

from engine.world.words.places import PLACES, SplitWords, choices
from engine.world.words.sky import TIMES, WEATHERS

__all__ = ["ANYBODY", "COLOURS", "HEROES", "PLACES", "TIMES", "WEATHERS", "SplitWords", "choices"]

HEROES: Final = (
    choices(
        "ball, round ball, rubber ball, little ball, sphere, "
        "football, soccer ball, bouncy ball, marble, big ball, bowling ball, basketball, tennis "
        "ball, small ball, toy ball, cannonball, bead, volleyball, round thing, bubble",
        "orb, globe",
    ),
    choices(
        "cube, box, block, little cube, square block, "
        "square, die, dice, brick, wooden block, carton, parcel, package, big cube, small cube, "
        "cardboard box, ice cube, small box, toy block, container, building block, chest",
        "crate, cuboid",
    ),
    choices(
        "fox, little fox, young fox, fox cub, clever fox, "
        "small fox, baby fox, wild fox, fennec, sly fox, furry fox, fox kit, bushy-tailed fox, "
        "foxes, cunning fox, foxy, big fox, tod",
        "vixen, reynard",
    ),
    choices(
        "robot, little robot, android, droid, bot, "
        "machine, mechanical man, metal man, small robot, toy robot, humanoid, tin man, big robot, "
        "walking machine, humanoid robot, mech, steel robot, metal robot, mechanoid, terminator, "
        "robots",
        "automaton, cyborg",
    ),
    choices(
        "bird, little bird, songbird, small bird, birdie, "
        "pigeon, dove, eagle, crow, robin, parrot, seagull, swallow, owl, duck, feathered friend, "
        "chick, budgie, hawk, nightingale, wren, hummingbird, young bird, birds, raven",
        "sparrow, finch",
    ),
    choices(
        "balloon, toy balloon, party balloon, little balloon, helium balloon, "
        "hot-air balloon, air balloon, gas balloon, birthday balloon, rubber balloon, blimp, "
        "airship, zeppelin, dirigible, big balloon, small balloon, floating balloon, balloons",
        "inflatable, aerostat",
    ),
)
ANYBODY: Final = (
    "hero", "hero", "character", "character", "figure", "figure", "thing", "traveller", "creature", "one",
    "cat",
    "dog", "horse", "man", "girl", "car", "tree", "ship", "dragon", "wizard", "elephant", "train", "snake",
    "house",
    "child", "ghost", "monkey", "bicycle", "fish", "knight", "flower",
)  # fmt: skip
"""Other subjects of a caption. They are none of HEROES, so that they are read as no hero."""

COLOURS: Final = (
    choices(
        "red, bright red, scarlet, ruby, cherry-red, "
        "blood-red, fire-engine red, ruby-red, rose-red, brick-red, tomato-red, maroon, burgundy, "
        "dark red, light red, reddish, carmine, strawberry-coloured, cardinal-red, deep red",
        "crimson, vermilion",
    ),
    choices(
        "orange, bright orange, tangerine, amber, pumpkin-coloured, "
        "dark orange, light orange, orange-coloured, peach-coloured, rust-coloured, "
        "copper-coloured, terracotta, mandarin, papaya-coloured, burnt orange, sunset-orange, "
        "marigold, ginger, deep orange",
        "apricot, carrot-coloured",
    ),
    choices(
        "yellow, bright yellow, golden, lemon-yellow, sunflower-yellow, "
        "light yellow, dark yellow, pale yellow, gold, blond, saffron, banana-yellow, "
        "honey-coloured, butter-yellow, straw-coloured, yellowish, sun-yellow, corn-yellow",
        "canary, mustard",
    ),
    choices(
        "green, bright green, emerald, lime-green, leaf-green, "
        "dark green, light green, olive, mint-green, grass-green, moss-green, forest-green, neon "
        "green, pea-green, pale green, apple-green, malachite, greenish, chartreuse, "
        "avocado-coloured, sea-green, pistachio",
        "jade, viridian",
    ),
    choices(
        "blue, bright blue, azure, sapphire, royal-blue, "
        "dark blue, light blue, sky-blue, navy, navy blue, indigo, baby-blue, cyan, midnight-blue, "
        "cornflower-blue, ocean-blue, pale blue, deep blue, cerulean, bluish, ice-blue, electric "
        "blue",
        "cobalt, ultramarine",
    ),
    choices(
        "purple, bright purple, violet, plum-coloured, lilac, "
        "dark purple, light purple, lavender, mauve, grape-coloured, royal purple, deep purple, "
        "pale purple, heather-coloured, purplish, violet-coloured, lilac-coloured, "
        "blackberry-coloured, neon purple",
        "amethyst, aubergine",
    ),
    choices(
        "white, snow-white, ivory, milk-white, chalk-white, "
        "pure white, off-white, cream-coloured, bone-white, bleached, cotton-white, paper-white, "
        "porcelain, ghostly white, whitish, swan-white, lily-white, pale white, vanilla-coloured, "
        "bright white",
        "alabaster, pearly",
    ),
    choices(
        "black, jet-black, coal-black, ebony, pitch-black, "
        "deep black, ink-black, inky, raven-black, charcoal, midnight-black, night-black, "
        "tar-black, obsidian, blackish, soot-black, sooty, ebony-black, dark black, black as coal",
        "onyx, sable",
    ),
)
