"""The positions of landmarks, from the words around them. "§0" represents the first landmark's phrase."""

from __future__ import annotations

import re
from typing import Final, Literal

Where = Literal["near", "ahead", "left", "right", "behind", "far"]

SOMEBODY: Final = r"(?: of)? (?:the |a |an )?(?:him|her|it|us|me|them|fox|robot|ball|cube|bird|balloon|hero)"
VERB: Final = (
    r"(?: (?:is|are|was|were|be|stand|stands|standing|appear|appears|appearing|come|comes|coming|show|"
    r"shows|waits|waiting|rises|can be seen|to be seen|visible|seen|up|into view|in sight|into sight|out|"
    r"there|over there|emerges|lies|sits|glows|shines|slowly|soon|now|everywhere|,|:)(?!\w))*"
)
SIDE: Final = (
    r"(?:on|to|at|from|off|toward|towards) (?:the|its|his|her|our|my|your) (?:far )?(left|right)(?: hand)?"
)
SIDE_OF: Final = rf"{SIDE}(?: side| edge)?(?:{SOMEBODY})?"
PLACES: Final[tuple[tuple[str, Where], ...]] = (
    (
        r"(?:far (?:away|off|ahead|out)|in the (?:far )?distance|in the background|on the horizon|"
        r"at a distance)",
        "far",
    ),
    (rf"(?:straight |right |up |just )?(?:ahead(?:{SOMEBODY})?|in front(?:{SOMEBODY})?)", "ahead"),
    (rf"(?:right |just )?(?:behind(?:{SOMEBODY})?|at the back|to the rear)", "behind"),
    (r"(?:close by|nearby|close at hand|right here|here)", "near"),
)
BEFORE: Final[tuple[tuple[str, Where], ...]] = (
    (r"(?:near to|near|next to|close to|beside|by|at|under|beneath|below|underneath|behind|past|around|"
     r"against|with|above|over|along|alongside|between|among|amongst|in front of|on top of|on|inside|before|"
     r"from|through)", "near"),
    (r"(?:toward|towards|to|up to|into)", "ahead"),
)  # fmt: skip
START: Final = r"(?:^|[.,;:!?] | and |that |then )"


def located(text: str, count: int) -> tuple[list[Where | None], str]:
    """The text with phrases as §0, §1, … → the position of each, and the text without the phrases and the
    words that gave the positions."""
    found: list[Where | None] = []
    for i in range(count):
        where, text = _one(text, f"§{i}(?!\\d)")
        found.append(where)
    return found, re.sub(r"\s+", " ", text).strip(" ,;:")


def _one(text: str, phrase: str) -> tuple[Where | None, str]:
    """The position of one phrase, and the text with a comma instead of the phrase and its position."""
    there = (
        r"(?: (?:there (?:is|are|was|stands?|comes?|appears?)|we see|you see|see|i want|is|are|stands?|,|:))*"
    )
    for side, place in ((SIDE_OF, None), *PLACES):
        patterns = (
            rf"(?: there (?:is|are))? ?{phrase}{VERB} {side}\b(?: {SIDE_OF})?",
            rf"{START}?(?:(?<=^)|(?<=[.,;:!?] )|(?<=and )|(?<=that )|(?<=then )){side}{there} {phrase}{VERB}",
        )
        for pattern in patterns:
            if (match := re.search(pattern, text)) is not None:
                where = place or _hand(match.group())
                return where, f"{text[: match.start()]} , {text[match.end() :]}"
    for before, place in BEFORE:
        if (match := re.search(rf"\b{before} {phrase}", text)) is not None:
            return place, f"{text[: match.start()]} , {text[match.end() :]}"
    bare = re.search(rf"(?:there (?:is|are) |let )?{phrase}{VERB}", text)
    assert bare is not None
    return None, f"{text[: bare.start()]} , {text[bare.end() :]}"


def _hand(text: str) -> Where:
    sides = re.findall(r"\b(left|right)\b", text)
    return "left" if sides[0] == "left" else "right"
