"""Captions as people type them: misspelt, without articles, with filler words, or about nothing at all.

The attributes that a caption states never change. Models and tokens are unknown here.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
BEFORE: Final = (
    "please", "hey,", "ok,", "could you show", "generate", "create a video of", "draw", "a beautiful view:",
    "wow,", "i would love", "render", "the next scene:", "can you do", "maybe", "i think", "film of",
    "a dream of", "hello!", "my idea is", "in this video", "cartoon of", "photo of", "a painting of",
    "we would like", "try",
)  # fmt: skip
AFTER: Final = (
    "please", "thanks", "in high quality", "very detailed", "in cartoon style", "with a house behind",
    "near a tree", "next to a windmill", "beside a statue", "and some rocks", "with music", "as in a dream",
    "for my friend", "ok?", "like in a fairy tale", "beautiful", "best quality", "watercolour", "if you can",
    "with a tower", "all alone", "hd", "looking happy", "very fast", "very slowly", "for a while",
    "until i say so", "under a lamp", "with a road sign",
)  # fmt: skip
BETWEEN: Final = (
    "very", "really", "quite", "slowly", "happily", "huge", "tiny", "old", "magic", "endless", "cute",
    "pretty", "sad", "funny", "quickly", "quietly", "just", "also", "strange", "lovely", "shiny", "famous",
    "proud", "lonely", "epic", "my", "some", "big", "realistic", "gently", "friendly", "tired",
)  # fmt: skip
SILENCE: Final = (
    "", "hi", "test", "what is this", "nice", "surprise me", "anything", "i like this", "more", "go on",
    "continue", "ok", "good", "wow", "what happens next?", "how are you", "yes", "no", "beautiful",
    "tell me a story", "please", "again", "a picture", "a video", "a landscape", "who are you", "1 2 3",
    "lol", "?",
    "let us see what happens",
)  # fmt: skip


def misspell(word: str, rng: Random) -> str:
    """One typing error: two letters swapped, one missing, doubled or wrong."""
    at = rng.randrange(len(word) - 1)
    return rng.choice(
        (
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            word[: at + 1] + word[at + 2 :],
            word[: at + 1] + word[at] + word[at + 1 :],
            word[: at + 1] + rng.choice(LETTERS) + word[at + 2 :],
        )
    )


def slips(words: list[str], rng: Random) -> list[str]:
    """Misspell one or two of the longer words."""
    long = [i for i, word in enumerate(words) if len(word) >= 4 and word.isalpha()]
    for i in rng.sample(long, min(len(long), rng.choice((1, 1, 2)))):
        words[i] = misspell(words[i], rng)
    return words


def hurried(words: list[str], rng: Random) -> list[str]:
    """The text without its articles."""
    return [word for word in words if word not in ("a", "an", "the")] or words


def wordy(words: list[str], rng: Random) -> list[str]:
    """Up to three words without meaning for the world."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        words.insert(rng.randrange(len(words) + 1), rng.choice(BETWEEN))
    return words


def polite(words: list[str], rng: Random) -> list[str]:
    """Filler phrases before or after the text, or both."""
    before, after = rng.choice(((1, 0), (0, 1), (1, 1)))
    return [*(rng.choice(BEFORE),) * before, *words, *(rng.choice(AFTER),) * after]


def nonsense(rng: Random) -> str:
    """A text without attributes: unrelated words, nothing, or random letters."""
    kind = rng.random()
    if kind < 0.6:
        return rng.choice(SILENCE)
    if kind < 0.8:
        return " ".join(rng.choice(BETWEEN + BEFORE + AFTER) for _ in range(rng.randrange(1, 4)))
    return " ".join("".join(rng.choices(LETTERS, k=rng.randrange(2, 7))) for _ in range(rng.randrange(1, 4)))


WAYS: Final[tuple[tuple[float, Callable[[list[str], Random], list[str]]], ...]] = (
    (0.2, hurried),
    (0.2, wordy),
    (0.25, polite),
    (0.3, slips),
)


def roughen(text: str, rng: Random) -> str:
    words = text.split()
    for share, way in WAYS:
        if rng.random() < share:
            words = way(words, rng)
    return " ".join(words)
