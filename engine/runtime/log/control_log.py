"""All that made a video what it is, as JSON Lines: how it began, then each control at the segment where it
took effect. From that it can be made again (engine.runtime.session.replay), as it was or edited by hand.

Bounded: a log that has become too long begins anew, at a moment of the past that is still kept. It knows no
backend and no time; the file's form is described in docs/protocol.md.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace
from typing import Any

from engine.runtime.log.log_form import png, to_wire, weighted_json
from engine.runtime.state.change import Change, Prompts
from engine.types import ByteArray, Control, Image, Rewind

FORMAT = "psistream-log-1"
MOST_LINES = 4096
MOST_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Begin:
    """How the video began: from prompts, a seed and maybe a picture, or from a snapshot and what was to be
    changed there. `segment` is the number of the first segment."""

    segment: int = 0
    prompts: Prompts = ()
    seed: int = 0
    image: ByteArray | None = None
    snapshot: bytes | None = None
    change: Change | None = None


@dataclass(frozen=True)
class Line:
    """`segment` is the first that shows the control. Where it went back in time, `source` is the segment
    that it went on from, and `screen` the one that was shown last before."""

    segment: int
    control: Control
    source: int | None = None
    screen: int | None = None

    @property
    def nbytes(self) -> int:
        body = self.control.body
        return body.pixels.nbytes if isinstance(body, Image) else len(repr(self.control))


@dataclass(frozen=True)
class ControlLog:
    """Never changed in place, so another thread may write it down at any time."""

    begin: Begin
    lines: tuple[Line, ...] = ()
    nbytes: int = 0
    lost: int = 0  # lines that found no room

    def add(self, line: Line) -> ControlLog:
        return replace(self, lines=(*self.lines, line), nbytes=self.nbytes + line.nbytes)

    @property
    def too_long(self) -> bool:
        return len(self.lines) > MOST_LINES or self.nbytes > MOST_BYTES

    def since(self, begin: Begin) -> ControlLog:
        """It begins later. At least half of its room is free then: what is too much even so is lost."""
        lines = [line for line in self.lines if line.segment >= begin.segment]
        kept: list[Line] = []
        size = 0
        for line in reversed(lines):
            size += line.nbytes
            if len(kept) >= MOST_LINES // 2 or size > MOST_BYTES // 2:
                break
            kept.append(line)
        size = sum(line.nbytes for line in kept)
        return ControlLog(begin, tuple(reversed(kept)), size, self.lost + len(lines) - len(kept))

    def written(self, about: dict[str, Any]) -> bytes:
        """`about` says which model made it and how many segments."""
        header = {"format": FORMAT, **about, **_begin_json(self.begin)}
        if self.lost:
            header["lost"] = self.lost
        rows = [header, *(_line_json(line) for line in self.lines)]
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _begin_json(begin: Begin) -> dict[str, Any]:
    if begin.snapshot is None:
        start: dict[str, Any] = {"prompts": weighted_json(begin.prompts), "seed": begin.seed}
        if begin.image is not None:
            start["image"] = png(begin.image)
        return start
    start = {"segment": begin.segment, "snapshot": base64.b64encode(begin.snapshot).decode()}
    if begin.change is not None:
        start["change"] = _change_json(begin.change)
    return start


def _change_json(change: Change) -> dict[str, Any]:
    scene = change.scene
    return {
        "prompts": None if change.prompts is None else weighted_json(change.prompts),
        "over": change.over,
        "scene": None
        if scene is None
        else {
            "seed": scene.seed,
            "number": scene.number,
            "image": None if scene.image is None else png(scene.image),
            "keep_anchor": scene.keep_anchor,
        },
    }


def _line_json(line: Line) -> dict[str, Any]:
    screen = line.screen if isinstance(line.control.body, Rewind) else None
    places = {"segment": line.segment, "from": line.source, "screen": screen}
    known = {name: place for name, place in places.items() if place is not None}
    return {**known, "id": line.control.id, **to_wire(line.control.body)}
