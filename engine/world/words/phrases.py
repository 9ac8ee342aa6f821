"""The phrases of a caption: words for facts, chosen anew each time.

This module knows the vocabulary and grammar of phrases. Layouts of captions are unknown here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from engine.world.attributes import ACTIONS
from engine.world.words import names as words
from engine.world.words import verbs
from engine.world.words.extra import extra
from engine.world.words.names import SplitWords

IN = ("in the", "across the", "near the", "over the", "through the", "among the", "in a", "on the")
AT = ("in", "on", "near", "at")
WHEN = ("at {}", "in the {}", "during the {}")
WITH = ("in the {}", "in a {}", "in {}", "with {}")


@dataclass(frozen=True)
class Facts:
    """The facts to state. Every method chooses new words for them."""

    values: Mapping[str, int]
    motion: int | None
    rng: Random
    reserved: frozenset[str]  # fields, or "motion", to state in reserved words
    wide: float = 0.0  # share of names from the dictionary's list (`extra`)

    def choose(self, about: str, choices: SplitWords) -> str:
        return self.rng.choice(choices.held if about in self.reserved else choices.train)

    def name(self, about: str, *frames: str) -> str | None:
        """One of the dictionary's names in one of the frames, or None for the usual words."""
        if not self.wide or about in self.reserved or self.rng.random() >= self.wide:
            return None
        names = extra()[about][self.values.get(about, 0)]
        return self.rng.choice(frames or ("{}",)).format(self.rng.choice(names)) if names else None

    def says(self, *about: str) -> bool:
        return any(name in self.values or (name == "motion" and self.motion is not None) for name in about)

    # Place, time and weather.

    def place(self) -> tuple[str, str, str]:
        """Preposition, article (may be empty) and noun."""
        noun = self.name("place")
        if noun:
            lead = self.rng.choice(AT if noun[0].isupper() else IN)
        else:
            lead, noun = self.choose("place", words.PLACES[self.values["place"]].nouns).split("|")
        preposition, _, article = lead.rpartition(" ")
        if article in ("a", "an", "the"):
            return preposition, article, noun
        return lead, "", noun

    def where(self) -> str:
        return " ".join(filter(None, self.place()))

    def place_adjective(self) -> str:
        return self.choose("place", words.PLACES[self.values["place"]].adjectives)

    def when(self) -> str:
        return self.name("time", *WHEN) or self.choose("time", words.TIMES[self.values["time"]].phrases)

    def hour(self) -> str:
        return self.name("time") or self.choose("time", words.TIMES[self.values["time"]].nouns)

    def time_adjective(self) -> str:
        return self.choose("time", words.TIMES[self.values["time"]].adjectives)

    def air(self) -> str:
        told = words.WEATHERS[self.values["weather"]].phrases
        return self.name("weather", *WITH) or self.choose("weather", told)

    def weather(self) -> str:
        return self.name("weather") or self.choose("weather", words.WEATHERS[self.values["weather"]].nouns)

    def weather_adjective(self) -> str:
        return self.choose("weather", words.WEATHERS[self.values["weather"]].adjectives)

    def weather_clause(self) -> str:
        return self.choose("weather", words.WEATHERS[self.values["weather"]].clauses)

    def circumstances(self, *without: str) -> list[str]:
        """Adverbial phrases for the stated place, time and weather, in random order."""
        phrases = {"place": self.where, "time": self.when, "weather": self.air}
        chosen = [phrase() for name, phrase in phrases.items() if name in self.values and name not in without]
        self.rng.shuffle(chosen)
        return chosen

    # The hero and what it does.

    def who(self) -> str:
        """The hero without an article, e.g. "crimson fox"."""
        colour = [self.colour()] if "colour" in self.values else []
        return " ".join([*colour, self.hero()])

    def hero(self) -> str:
        if "hero" in self.values:
            return self.name("hero") or self.choose("hero", words.HEROES[self.values["hero"]])
        return self.name("nothing") or self.rng.choice(words.ANYBODY)

    def colour(self) -> str:
        known = words.COLOURS[self.values["colour"]]
        return self.name("colour") or self.choose("colour", known)

    def with_colour_apart(self) -> tuple[str, str]:
        """("fox", "crimson"), for layouts that separate the two."""
        return self.hero(), self.colour()

    def a_hero(self) -> str:
        who = self.who()
        known = self.says("hero", "colour") and self.rng.random() < 0.8
        return with_article(who) if known else f"the {who}"

    def verb(self) -> tuple[str, str]:
        """What the hero does: ("trots to the left", "trotting to the left")."""
        assert self.motion is not None
        known = verbs.VERBS[self.values["hero"]] if "hero" in self.values else verbs.ANY_VERBS
        action = ACTIONS[self.motion]
        kind = {"jump": known.jump, "idle": known.wait}.get(action, known.go)
        finite, gerund = self.choose("motion", kind).split("/")
        if action in ("left", "right"):
            # One reserved word is enough: an unfamiliar verb with a familiar direction, or the reverse.
            side = verbs.LEFT if action == "left" else verbs.RIGHT
            where = self.rng.choice(
                side.held if "motion" in self.reserved and self.rng.random() < 0.5 else side.train
            )
            return f"{finite} {where}", f"{gerund} {where}"
        return finite, gerund

    def command(self) -> str:
        """A command to the hero: "trot to the left"."""
        return verbs.base(self.verb()[0])

    def actor(self) -> str:
        """A noun phrase: the hero, with its motion as a participle."""
        return f"{self.a_hero()} {self.verb()[1]}" if self.says("motion") else self.a_hero()

    def clause(self) -> str:
        """A main clause if there is a motion, otherwise a noun phrase."""
        return f"{self.a_hero()} {self.verb()[0]}" if self.says("motion") else self.a_hero()

    def keywords(self, *, bare: bool) -> list[str]:
        """One short item per fact, in random order. With `bare`, a colour may be an item of its own."""
        items = []
        if self.says("place"):
            items.append(self.place()[2])
        if self.says("time"):
            items.append(self.hour())
        if self.says("weather"):
            items.append(self.weather())
        if self.says("hero"):
            items.append(self.who())
        elif self.says("colour"):
            alone = bare and self.rng.random() < 0.5
            items.append(self.colour() if alone else self.who())
        if self.says("motion"):
            items.append(self.verb()[1])
        self.rng.shuffle(items)
        return items


def with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
