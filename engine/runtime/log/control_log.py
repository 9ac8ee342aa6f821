"""Everything that determines a video, as JSON Lines: its opening, then each control with the segment where it
took effect. engine.runtime.session.replay makes the video again from the log, unchanged or edited by hand.

A log is bounded: one that has become too long starts again at a moment of the past that is still kept. This
module knows no backends and no time. docs/protocol.md describes the file.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.runtime.state.change import Change
from engine.runtime.state.past import Moment
from engine.runtime.state.snapshot import Saved
from engine.types import ByteArray, Control, Image, Prompts, Rewind
from engine.wire.controls import control_json, image_json, prompts_json

FORMAT = "psistream-log-1"
MOST_LINES = 4096
MOST_BYTES = 4 * 2**20


@dataclass(frozen=True)
class LogStart:
    """How the video starts: from prompts, a seed and optionally a picture; or from a saved state and the
    change to make there. `segment` is the number of the first segment."""

    segment: int = 0
    prompts: Prompts = ()
    seed: int = 0
    image: ByteArray | None = None
    saved: Saved | None = None
    change: Change | None = None


@dataclass(frozen=True)
class Line:
    """`segment` is the first that shows the control. A control that went back in time has a `source`, the
    segment it continued from, and a `screen`, the segment that was shown last before."""

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
    """Never changed in place, so another thread may write it to a file at any time."""

    start: LogStart
    lines: tuple[Line, ...] = ()
    nbytes: int = 0
    lost: int = 0  # lines for which there was no space

    def add(self, line: Line) -> ControlLog:
        return replace(self, lines=(*self.lines, line), nbytes=self.nbytes + line.nbytes)

    @property
    def too_long(self) -> bool:
        return len(self.lines) > MOST_LINES or self.nbytes > MOST_BYTES

    def since(self, start: LogStart) -> ControlLog:
        """The log from a later start. Lines that exceed half of the bounds are lost, oldest first."""
        lines = [line for line in self.lines if line.segment >= start.segment]
        kept: list[Line] = []
        size = 0
        for line in reversed(lines):
            size += line.nbytes
            if len(kept) >= MOST_LINES // 2 or size > MOST_BYTES // 2:
                break
            kept.append(line)
        size = sum(line.nbytes for line in kept)
        return ControlLog(start, tuple(reversed(kept)), size, self.lost + len(lines) - len(kept))

    def extended(self, line: Line, moments: Sequence[Moment], here: LogStart) -> ControlLog:
        """The log with one more line. It starts again at one of the kept `moments` if it has become too long,
        and `here` if the control went back to before its start. No array is copied."""
        log = self.add(line)
        if log.too_long:
            later = [m for m in moments if m.segment >= log.start.segment]
            few = (m for m in later if sum(li.segment > m.segment for li in log.lines) <= MOST_LINES // 2)
            moment = next(few, later[-1] if later else None)
            return log.since(log.start if moment is None else started_at(moment))
        if line.source is not None and line.source < log.start.segment - 1:
            return ControlLog(here)
        return log

    def written(self, about: dict[str, Any], save: Callable[[Saved], bytes]) -> bytes:
        """The file. `about` names the model and the number of segments; `save` makes a snapshot."""
        header = {"format": FORMAT, **about, **_start_json(self.start, save)}
        if self.lost:
            header["lost"] = self.lost
        rows = [header, *(_line_json(line) for line in self.lines)]
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def started_at(moment: Moment) -> LogStart:
    return LogStart(moment.segment + 1, saved=Saved(moment.state, moment.prompts, moment.held))


def _start_json(start: LogStart, save: Callable[[Saved], bytes]) -> dict[str, Any]:
    if start.saved is None:
        fields: dict[str, Any] = {"prompts": prompts_json(start.prompts), "seed": start.seed}
        if start.image is not None:
            fields["image"] = image_json(start.image)
        return fields
    fields = {"segment": start.segment, "snapshot": base64.b64encode(save(start.saved)).decode()}
    if start.change is not None:
        fields["change"] = _change_json(start.change)
    return fields


def _change_json(change: Change) -> dict[str, Any]:
    scene = change.scene
    return {
        "prompts": None if change.prompts is None else prompts_json(change.prompts),
        "over": change.over,
        "scene": None
        if scene is None
        else {
            "seed": scene.seed,
            "number": scene.number,
            "image": None if scene.image is None else image_json(scene.image),
            "keep_anchor": scene.keep_anchor,
        },
    }


def _line_json(line: Line) -> dict[str, Any]:
    screen = line.screen if isinstance(line.control.body, Rewind) else None
    places = {"segment": line.segment, "from": line.source, "screen": screen}
    known = {name: place for name, place in places.items() if place is not None}
    return {**known, "id": line.control.id, **control_json(line.control.body)}
