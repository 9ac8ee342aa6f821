"""The result of a check and how it is printed: one line each, and for failures another one with the fix."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["good", "note", "bad"]
SIGNS: dict[State, str] = {"good": "✓", "note": "·", "bad": "✗"}
COLOURS: dict[State, str] = {"good": "\033[32m", "note": "\033[33m", "bad": "\033[31m"}
PLAIN = "\033[0m"


@dataclass(frozen=True)
class Finding:
    """`note` is neither good nor bad: something optional is missing. `mend` says how to fix it."""

    about: str
    state: State
    text: str
    mend: str = ""


def good(about: str, text: str) -> Finding:
    return Finding(about, "good", text)


def note(about: str, text: str, mend: str = "") -> Finding:
    return Finding(about, "note", text, mend)


def bad(about: str, text: str, mend: str) -> Finding:
    return Finding(about, "bad", text, mend)


def lines(findings: Sequence[Finding], *, colour: bool) -> list[str]:
    wide = max((len(f.about) for f in findings), default=0)
    shown = []
    for f in findings:
        sign = f"{COLOURS[f.state]}{SIGNS[f.state]}{PLAIN}" if colour else SIGNS[f.state]
        shown.append(f"{sign} {f.about:<{wide}}  {f.text}")
        if f.mend:
            shown.append(f"  {'':<{wide}}  → {f.mend}")
    return shown


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    return {"good": not any(f.state == "bad" for f in findings), "checks": [asdict(f) for f in findings]}


def in_colour() -> bool:
    return sys.stdout.isatty()
