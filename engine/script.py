"""Steering scripts: "2s:right,4s:prompt=a snowy city at night" → controls and their times. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from engine.errors import InvalidInput
from engine.types import Action, ControlBody, Prompt, Reset

RELEASE = "auto"  # releases the action, so the prompt's own motion applies again


class Entry(NamedTuple):
    """A control and its time in the video."""

    at_s: float
    body: ControlBody


def parse_script(text: str, actions: Sequence[str]) -> list[Entry]:
    """The entries in order of time. Prompts may contain commas, since every entry starts with a time. Raises
    InvalidInput."""
    entries = []
    for item in re.split(r",(?=\s*\d+(?:\.\d+)?\s*s?\s*:)", text):
        if not item.strip():
            continue
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*s?\s*:\s*(.+?)\s*", item, re.DOTALL)
        if match is None:
            raise InvalidInput(
                f"--script: {item.strip()!r} is not TIME:WHAT, such as 2s:right or 4s:prompt=night",
                field="script",
            )
        entries.append(Entry(float(match[1]), _body(match[2], actions)))
    return sorted(entries, key=lambda entry: entry.at_s)


def _body(what: str, actions: Sequence[str]) -> ControlBody:
    verb, equals, text = what.partition("=")
    if equals and verb.strip() == "prompt" and text.strip():
        return Prompt(text.strip())
    if equals and verb.strip() == "cut" and text.strip():
        return Prompt(text.strip(), how="cut")
    if what in actions:
        return Action(what)
    if what == RELEASE:
        return Action(None)
    if what == "reset":
        return Reset()
    known = ", ".join([*actions, RELEASE, "reset", "prompt=TEXT", "cut=TEXT"])
    raise InvalidInput(f"--script: {what!r} is unknown; use one of {known}", field="script")
