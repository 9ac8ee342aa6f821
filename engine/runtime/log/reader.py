"""Parses a control log, as written or edited by hand. docs/protocol.md describes the file.

All errors in a log are found here, before anything is generated. An error is one line that names the file's
line, the field and the fix; harmless oddities are warnings. This module knows no backends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from engine.errors import InvalidInput
from engine.images import decode_image
from engine.model.signature import ModelSpec
from engine.runtime.log.control_log import Line, LogStart
from engine.runtime.log.header import MOST, Header, read_header, refuse, whole
from engine.types import Action, ByteArray, Control, Rewind
from engine.wire.controls import at_once, check_action
from engine.wire.parse import stored_control
from engine.wire.strict_json import load_object

PLACES = ("segment", "from", "screen")
MOST_LINE_BYTES = 2**30  # of a snapshot in base64


class Log(NamedTuple):
    start: LogStart
    lines: list[Line]
    segments: int  # the number after the last one's; more can be made
    backend: str
    context_noise: float | None
    before: int = 0  # number of segments that were shown before this video started
    warnings: tuple[str, ...] = ()  # harmless oddities


def read_log(data: bytes, spec: ModelSpec, fingerprint: str, name: str = "log") -> Log:
    """Raises InvalidInput; its message starts with `name`, the line's number and the field."""
    rows = [
        (n, row) for n, row in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1) if row.strip()
    ]
    if not rows:
        raise InvalidInput(f"{name}: it is empty", field="log")
    (number, row), *others = rows
    with _named(name, number):
        header = read_header(load_object(row, MOST_LINE_BYTES), spec, fingerprint)
    warnings = []
    if header.lost:
        warnings.append(f"{name}:{number}: lost: {header.lost} controls are missing: the video will differ")
    lines: list[Line] = []
    seen: dict[str, int] = {}
    way = _Way(header.start.segment)
    for number, row in others:
        with _named(name, number):
            least = lines[-1].segment if lines else header.start.segment
            line = _line(load_object(row, MOST_LINE_BYTES), spec, way, least)
            if line.segment > header.segments:
                refuse(
                    "segment",
                    f"it is {line.segment}, but line {rows[0][0]} tells of {header.segments} segments: "
                    "raise `segments` there, or remove this line",
                )
        lines.append(line)
        if (id_ := line.control.id) and (first := seen.setdefault(id_, number)) != number:
            warnings.append(f"{name}:{number}: id: line {first} has {id_!r:.60} too; both take effect")
    end = max([header.segments, *(line.segment + 1 for line in lines[-1:])])
    return _log(header, lines, end, warnings)


def _log(header: Header, lines: list[Line], segments: int, warnings: list[str]) -> Log:
    h = header
    return Log(h.start, lines, segments, h.backend, h.context_noise, h.before, tuple(warnings))


@contextmanager
def _named(name: str, number: int) -> Iterator[None]:
    """Errors name the file's line."""
    try:
        yield
    except InvalidInput as error:
        field = "log" if error.field in (None, "message") else error.field
        what = error.message.removeprefix(f"{field} ").removeprefix(f"{field}: ").removeprefix("it ")
        place = f"{name}:{number}: " if field == "log" else f"{name}:{number}: {field}: "
        raise InvalidInput(place + what, field=field) from None


# ---- a control's line ----


def _line(row: dict[str, Any], spec: ModelSpec, way: _Way, least: int) -> Line:
    if "format" in row:
        refuse("format", "a log has one first line, and this is another one: remove it")
    segment = whole(row, "segment", 0)
    if segment < least:
        refuse("segment", f"it must be {least} at least, not {segment}: lines are in order")
    if not isinstance(id_ := row.get("id", ""), str):
        refuse("id", "it must be a string, or left out")

    def decode(data: bytes) -> ByteArray:
        return decode_image(data, spec.width, spec.height)

    body = stored_control({name: value for name, value in row.items() if name not in (*PLACES, "id")}, decode)
    if isinstance(body, Action):
        check_action(body.action, spec.actions)
    control = Control(id_, body)
    if not at_once(body):
        for name in ("from", "screen"):
            if name in row:
                refuse(name, "only what takes effect at once has it: remove it")
        return Line(segment, control)
    goes_back = isinstance(body, Rewind)
    source = way.before(segment)  # written by hand without `from`: continue after the latest segment
    if "from" in row or goes_back:
        source = whole(row, "from", way.first, segment - 1)
    screen = source
    if goes_back:
        screen = whole(row, "screen", source, segment - 1)
    elif "screen" in row:
        refuse("screen", "only a rewind has it: remove it")
    way.turn(segment, source)
    return Line(segment, control, source, screen)


class _Way:
    """The segments that led to the current one, as runs of numbers; the last run is open."""

    def __init__(self, segment: int) -> None:
        self.first = segment - 1  # before the first
        self._runs = [[self.first, MOST]]

    def before(self, segment: int) -> int:
        """The latest segment on the way before `segment`."""
        return segment - 1 if self._runs[-1][0] < segment else self._runs[-2][1]

    def turn(self, segment: int, source: int) -> None:
        """`segment` continues from the end of `source`."""
        runs = [*self._runs[-3:-1], [self._runs[-1][0], segment - 1]]
        while self._runs[-1][0] > source:
            self._runs.pop()
        if source > self._runs[-1][1]:
            known = ", ".join(f"{a} to {b}" for a, b in runs if a <= b)
            refuse("from", f"the video did not come through segment {source}, but lately through {known}")
        self._runs[-1][1] = source
        self._runs.append([segment, MOST])
