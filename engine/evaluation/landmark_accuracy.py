"""Accuracy of reading landmarks from prompts: kind, colour, place and number, or none if none is named.

`python -m engine.evaluation.landmark_accuracy [--faults]` prints a table. The first set of prompts was
written before the vocabulary (`landmarks_typed.toml`). The others are composed from words and layouts in this
file, which were not used to make the vocabulary.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from engine.evaluation.statistics import share
from engine.landmarks.sentence import read
from engine.world.attributes import COLOURS, LANDMARKS

TYPED: Final = Path(__file__).parent / "landmarks_typed.toml"
NOUNS: Final = {
    "tree": "oak, birch, willow, cypress, sycamore, acacia, palm tree, sapling, weeping willow, maple tree",
    "house": "cottage, cabin, hut, bungalow, farmhouse, chalet, villa, mansion, shack, igloo",
    "tower": "castle, lighthouse, belfry, minaret, turret, watchtower, clock tower, spire",
    "windmill": "mill, wind turbine, old mill, post mill",
    "rock": "boulder, stone, crag, cliff, pebble, big stone",
    "lamp": "lantern, streetlight, street lamp, lamppost, lamp post, torch",
    "sign": "signpost, road sign, billboard, placard, street sign, notice board",
    "statue": "sculpture, monument, effigy, bust, figurine, stone statue",
}
OTHER_NOUNS: Final = {
    "tree": "hazel, linden, cedar, larch, juniper, mango tree, chestnut tree",
    "house": "lodge, homestead, townhouse, barn, log cabin, farm, hovel",
    "tower": "citadel, steeple, campanile, water tower, bell tower, fortress",
    "windmill": "windpump, flour mill, wind farm, wind-mill",
    "rock": "outcrop, rock formation, slab, menhir, cobblestone",
    "lamp": "gaslight, floodlight, spotlight, oil lamp, street-lamp",
    "sign": "noticeboard, poster, traffic sign, waymark, sign board",
    "statue": "carving, marble statue, gargoyle, idol, memorial",
}
"""Written after the results of the first set were known, and before those of this one."""
HUES: Final = {
    "red": "crimson, scarlet, ruby", "orange": "tangerine, amber", "yellow": "golden, lemon-yellow",
    "green": "emerald, olive, jade", "blue": "azure, cobalt, navy", "purple": "violet, lilac, mauve",
    "white": "ivory, snow-white, pearly", "black": "jet-black, ebony, pitch-black",
}  # fmt: skip
LAYOUTS: Final = (
    ("{a} comes into view", None), ("{hero} walks right past {a}", "near"), ("{hero} near {a}", "near"),
    ("on the left stands {a}", "left"), ("{a} on the right side", "right"),
    ("{hero}, and {a} far away", "far"),
    ("i would like to see {a}", None), ("{a} appears ahead of {the}", "ahead"),
    ("show {hero} next to {a}", "near"),
    ("at night {hero} finds {a}", None), ("it rains on {a}", "near"), ("there is {a} in the distance", "far"),
    ("{hero} in the forest at dawn; {a}, please", None), ("{a} to the left of {the}", "left"),
    ("suddenly {a}!", None), ("{hero} jumps over {a} in the snow", "near"), ("{a} behind {the}", "behind"),
    ("beach, noon, {hero}, {a}", None), ("{hero} stands still beside {a}", "near"),
)  # fmt: skip
HEROES: Final = (
    "a blue fox",
    "a red robot",
    "the white bird",
    "a green cube",
    "a purple balloon",
    "a small ball",
)
SIZES: Final = ("", "", "", "tall ", "tiny ", "old ", "huge ", "lonely ", "crumbling ")


class Example(NamedTuple):
    text: str
    said: str  # "kind colour where count; …", with - for what is not said


def typed() -> list[Example]:
    """The prompts in TYPED."""
    rows = tomllib.loads(TYPED.read_text(encoding="utf-8"))["prompts"]
    return [Example(text.strip(), said.strip()) for text, said in (row.split("|") for row in rows)]


def made(nouns: Mapping[str, str] = NOUNS, n: int = 200, seed: int = 11) -> list[Example]:
    """Composed prompts with one landmark each; every fifth has none."""
    rng, found = Random(seed), []
    for i in range(n):
        kind, colour = rng.choice(LANDMARKS), rng.choice((None, *COLOURS))
        layout, where = LAYOUTS[i % len(LAYOUTS)]
        noun = rng.choice(nouns[kind].split(", "))
        hue = "" if colour is None else f"{rng.choice((colour, *HUES[colour].split(', ')))} "
        size = rng.choice(SIZES)
        article = "an" if (size + hue + noun)[0] in "aeiou" else "a"
        hero = rng.choice(HEROES)
        if i % 5 == 4:
            found.append(Example(layout.format(a="nothing", hero=hero, the="him"), ""))
            continue
        text = layout.format(a=f"{article} {size}{hue}{noun}", hero=hero, the="the fox")
        found.append(Example(text, f"{kind} {colour or '-'} {where or '-'} 1"))
    return found


def said(text: str) -> str:
    """What is read from a prompt, in the form of `Example.said`."""
    found = read(text, LANDMARKS, COLOURS)[0]
    return "; ".join(f"{r.kind} {r.colour or '-'} {r.where or '-'} {r.number}" for r in found)


def _parts(said: str) -> list[list[str]]:
    return [one.split() for one in said.split("; ")] if said else []


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(
        prog="python -m engine.evaluation.landmark_accuracy", description=__doc__.split("\n")[0]
    )
    p.add_argument("--faults", action="store_true", help="list the prompts that are read wrong")
    args = p.parse_args(argv)
    print(
        "| share read right | n | kinds | kinds and colours | and place and number |\n|---|---|---|---|---|"
    )
    sets = {"typed": typed(), "made": made(), "made, other names": made(OTHER_NOUNS, seed=12)}
    for name, examples in sets.items():
        answers = [(_parts(said(e.text)), _parts(e.said)) for e in examples]
        cells = []
        for fields in (1, 2, 4):
            right = [[r[:fields] for r in a] == [r[:fields] for r in b] for a, b in answers]
            found = share([float(r) for r in right])
            assert found is not None
            cells.append(f"{found.value:.3f} ({found.low:.3f}–{found.high:.3f})")
        print(f"| {name} | {len(examples)} | {' | '.join(cells)} |")
        if args.faults:
            for e in examples:
                if said(e.text) != e.said:
                    print(f"{e.text!r}: {said(e.text)!r}, not {e.said!r}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
