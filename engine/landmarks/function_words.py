"""Function words of the grammar that reads landmarks from prompts."""

from __future__ import annotations

from typing import Final


def words(text: str) -> frozenset[str]:
    """The words in `text`."""
    return frozenset(text.split())


ONE: Final = words("a an one another the this that my his her its our your every each")
COUNTS: Final = {"two": 2, "2": 2, "both": 2, "couple": 2, "pair": 2, "some": 2, "three": 3, "3": 3, "few": 3}
MANY: Final = words("four five six seven eight nine ten many lots several dozens countless")
NONE: Final = words("no without neither nor")
MORE: Final = words("another more other second new")
MOST: Final = 4
FOREIGN: Final = words(
    "and or but with of near by beside in on at to from over under past behind before through around into "
    "onto toward towards along between among is are was were has have there it he she they we you i who "
    "which that while as then let show comes come appears appear stands walks walk goes runs run trots "
    "jumps jump hops flies floats rolls waits stays moves going walking running jumping flying rolling "
    "standing sitting like not"
)
"""Words before a landmark's phrase that do not belong to it."""
OTHER_HEADS: Final = words(
    "forest forests wood woods grove music concert band star stars song roll beach keeper city town "
    "village street garden plant door hat roof cat frog pool show party day kind shadow language code "
    "trunk leaf leaves branch top cake coloured colored color colour"
)
"""Nouns after which a landmark's name is only a modifier: a pine forest, a rock concert."""
LINK: Final = words("is are was were painted coloured colored made all in of out from glows shines lit")
BETWEEN: Final = words("that which who , very bright dark light pale deep it")
MATERIALS: Final = words("stone stones rock brick bricks wood marble metal iron glass")
VERBS: Final = words("signs rocks towers stones houses sign rock tower mills")
"""Names that are verbs after a subject, such as "he signs"."""
