"""Parses mixed prompts, as the page does: `a forest 70% | a city 30%` → texts with weights. Pure."""

from __future__ import annotations

import re
from typing import Any

_FIGURE = re.compile(r"(.*?)[\s:,]*(\d{1,3}(?:\.\d+)?)\s*%", re.DOTALL)


def mixed(line: str) -> dict[str, Any]:
    """The fields of a prompt control: `text`, or `prompts` if the line has bars. Parts without a percentage
    divide the rest equally. Raises ValueError with a message for the user."""
    if "|" not in line:
        return {"text": line.strip()}
    found: list[tuple[str, float | None]] = []
    for part in filter(None, map(str.strip, line.split("|"))):
        match = _FIGURE.fullmatch(part)
        found.append((match[1].strip(), float(match[2])) if match else (part, None))
    if not found or not all(text for text, _ in found):
        raise ValueError("one part has a share but no text: write it like a forest 70% | a city 30%")
    if nothing := next((text for text, share in found if share == 0), None):
        raise ValueError(f"{nothing!r} has a share of 0 %: leave it out or give it more")
    left = 100 - sum(share for _, share in found if share is not None)
    without = [text for text, share in found if share is None]
    if without and left <= 0:
        raise ValueError(f"nothing is left for {without[0]!r}: the other shares come to 100 % or more")
    if len(found) == 1:
        return {"text": found[0][0]}
    shares = [(text, left / len(without) if share is None else share) for text, share in found]
    return {"prompts": [{"text": text, "weight": round(share / 100, 4)} for text, share in shares]}
