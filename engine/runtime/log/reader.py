"""A control log, as it was written or edited by hand → what it tells. Its form is in docs/protocol.md.

All that can be wrong with it is found here, before anything is made: a fault is one line that names the
file's line, the field and what is right; what may be meant so is a warning. It knows no backend.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn

from engine.errors import InvalidInput
from engine.model.signature import ModelSpec
from engine.runtime.log.control_log import FORMAT, Begin, Line
from engine.runtime.log.log_form import binary, from_wire, pixels_of, weighted_of
from engine.runtime.session.inbox import at_once
from engine.runtime.state import snapshot
from engine.runtime.state.change import Change, NewScene, Prompts
from engine.runtime.state.checks import MAX_TRANSITION, check_body, check_line, check_seed, checked_prompts
from engine.types import Control, Prompt, Rewind

HEADER = (
    ("format", "model", "weights", "backend", "context_noise", "segments", "before", "lost"),
    ("prompts", "seed", "image"),
    ("segment", "snapshot", "change"),
)
PLACES = ("segment", "from", "screen")
MOST_SEGMENTS = 10_000_000  # weeks of video; more is a slip of the hand
MOST = 2**40
CHANGE, SCENE = ("prompts", "over", "scene"), ("seed", "number", "image", "keep_anchor")


class Log(NamedTuple):
    begin: Begin
    lines: list[Line]
    segments: int  # the number after the last one's; more can be made
    backend: str
    context_noise: float | None
    before: int = 0  # so many segments were shown before the video began
    warnings: tuple[str, ...] = ()  # what is odd, and no fault


def read_log(data: bytes, spec: ModelSpec, fingerprint: str, name: str = "log") -> Log:
    """Raises InvalidInput, whose message begins with `name`, the line's number and the field."""
    rows = [(number, row) for number, row in enumerate(data.split(b"\n"), 1) if row.strip()]
    if not rows:
        raise InvalidInput(f"{name}: it is empty", field="log")
    (number, row), *others = rows
    with _named(name, number):
        told = _object(row)
        header = _header(told, spec, fingerprint)
    warnings = []
    if lost := told.get("lost"):
        warnings.append(f"{name}:{number}: lost: {lost} controls are missing here: it is not the whole story")
    lines: list[Line] = []
    seen: dict[str, int] = {}
    way = _Way(header.begin.segment)
    for number, row in others:
        with _named(name, number):
            line = _line(_object(row), spec, way, lines[-1].segment if lines else header.begin.segment)
            if line.segment > header.segments:
                _refuse(
                    "segment",
                    f"it is {line.segment}, but line {rows[0][0]} tells of {header.segments} segments: "
                    "let `segments` there be more, or remove this line",
                )
        lines.append(line)
        if (id_ := line.control.id) and (first := seen.setdefault(id_, number)) != number:
            warnings.append(f"{name}:{number}: id: line {first} has {id_!r:.60} too; both take effect")
    end = max([header.segments, *(line.segment + 1 for line in lines[-1:])])
    return header._replace(lines=lines, segments=end, warnings=tuple(warnings))


@contextmanager
def _named(name: str, number: int) -> Iterator[None]:
    try:
        yield
    except InvalidInput as error:
        field = error.field or "log"
        what = error.message.removeprefix(f"{field} ").removeprefix(f"{field}: ").removeprefix("it ")
        place = f"{name}:{number}: " if field == "log" else f"{name}:{number}: {field}: "
        raise InvalidInput(place + what, field=field) from None


def _refuse(field: str, what: str) -> NoReturn:
    raise InvalidInput(what, field=field)


# ---- JSON ----


def _object(row: bytes) -> dict[str, Any]:
    try:
        value = json.loads(row.decode("utf-8-sig"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError:
        _refuse("log", "it is not UTF-8: save the file as UTF-8")
    except json.JSONDecodeError as error:
        _refuse("log", f"it is not JSON ({error.msg}, column {error.colno}): one object is one line")
    except RecursionError:
        _refuse("log", "it is nested too deep: a line is a flat object")
    except ValueError:
        _refuse("log", "a number has thousands of digits: make it shorter")
    if not isinstance(value, dict):
        _refuse("log", 'it must be a JSON object, as {"segment": 3, "type": "action", "action": null}')
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            _refuse(_shown(name), "it stands here twice: keep one of them")
        found[name] = value
    return found


def _no_constant(name: str) -> NoReturn:
    _refuse("log", f"{name} is no number of JSON: write a finite one")


def _shown(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name[:40]) or '""'


def _known(row: Mapping[str, Any], known: tuple[str, ...], within: str = "") -> None:
    for name in row:
        if name not in known:
            _refuse(within + _shown(name), f"it is not a known field: remove it (known: {', '.join(known)})")


def _whole(row: Mapping[str, Any], name: str, least: int, most: int = MOST, within: str = "") -> int:
    value = row.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        up_to = "up" if most == MOST else f"to {most}"
        given = f", not {value!r:.30}" if name in row else ": now it is missing"
        _refuse(within + name, f"it must be a whole number from {least} {up_to}{given}")
    return value


# ---- the first line ----


def _header(row: dict[str, Any], spec: ModelSpec, fingerprint: str) -> Log:
    if row.get("format") != FORMAT:
        _refuse("format", f"it must be {FORMAT!r} in the first line, which tells how the video began")
    _same_model(row, spec, fingerprint)
    begins = HEADER[2] if "snapshot" in row else HEADER[1]
    for name in row:
        if name in HEADER[1] and name not in begins:
            _refuse(name, "a video begins with it or with a snapshot, not with both: remove one of them")
        if name in HEADER[2] and name not in begins:
            _refuse(name, "it belongs to a snapshot, and there is none: remove it")
    _known(row, (*HEADER[0], *begins))
    noise, backend = row.get("context_noise"), row.get("backend", "")
    if noise is not None and not (_number(noise) and 0 <= noise <= 1):
        _refuse("context_noise", f"it must be null or a number from 0 to 1, not {noise!r:.30}")
    if not isinstance(backend, str):
        _refuse("backend", "it must be a string: the backend that made the video")
    if "lost" in row:
        _whole(row, "lost", 0)
    before = _whole(row, "before", 0) if "before" in row else 0
    if "snapshot" in row:
        begin = _from_snapshot(row, spec, fingerprint, before)
    else:
        begin = _from_prompt(row, spec, before)
    segments = _whole(row, "segments", begin.segment, begin.segment + MOST_SEGMENTS)
    return Log(begin, [], segments, backend, noise, before)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same_model(row: dict[str, Any], spec: ModelSpec, fingerprint: str) -> None:
    of = row.get("model"), row.get("weights")
    if of[0] != spec.name:
        _refuse("model", f"the log is of {of[0]!r:.60}, here runs {spec.name!r}: give its own with --model")
    if of[1] != fingerprint:
        _refuse("weights", f"the log is of the weights {of[1]!r:.40}, {spec.name} has {fingerprint!r} here")


def _from_prompt(row: dict[str, Any], spec: ModelSpec, before: int) -> Begin:
    if "prompts" not in row:
        _refuse("prompts", "it is missing: a video begins with prompts and a seed, or with a snapshot")
    prompts = _prompts(row["prompts"], "prompts")
    check_seed(row.get("seed"), "seed")
    image = row.get("image")
    if image is None and spec.needs_image:
        _refuse("image", f"it is missing: {spec.name} goes on from a picture, in base64")
    pixels = None if image is None else pixels_of(image, spec, "image")
    return Begin(before, prompts, row["seed"], pixels)


def _from_snapshot(row: dict[str, Any], spec: ModelSpec, fingerprint: str, before: int) -> Begin:
    first = _whole(row, "segment", before)
    data, change = binary(row["snapshot"], "snapshot"), row.get("change")
    snapshot.load(spec, fingerprint, data)
    return Begin(first, snapshot=data, change=None if change is None else _change(change, spec))


def _change(value: object, spec: ModelSpec) -> Change:
    if not isinstance(value, dict) or set(value) != set(CHANGE):
        _refuse("change", f"it must be null or an object with {', '.join(CHANGE)}, as it was written")
    prompts, scene = value["prompts"], value["scene"]
    over = _whole(value, "over", 1, MAX_TRANSITION, "change.")
    told = None if prompts is None else _prompts(prompts, "change.prompts")
    return Change(told, over, None if scene is None else _scene(scene, spec))


def _scene(value: object, spec: ModelSpec) -> NewScene:
    if not isinstance(value, dict) or set(value) != set(SCENE):
        _refuse("change.scene", f"it must be null or an object with {', '.join(SCENE)}, as it was written")
    check_seed(value["seed"], "change.scene.seed")
    number = _whole(value, "number", 0, MOST, "change.scene.")
    if not isinstance(value["keep_anchor"], bool):
        _refuse("change.scene.keep_anchor", "it must be true or false")
    image = value["image"]
    pixels = None if image is None else pixels_of(image, spec, "change.scene.image")
    return NewScene(value["seed"], number, pixels, value["keep_anchor"])


def _prompts(value: object, field: str) -> Prompts:
    found = checked_prompts(weighted_of(value, field), field)
    check_line(found, field)
    return found


# ---- a control's line ----


def _line(row: dict[str, Any], spec: ModelSpec, way: _Way, least: int) -> Line:
    if "format" in row:
        _refuse("format", "a log has one first line, and this is another one: remove it")
    segment = _whole(row, "segment", 0)
    if segment < least:
        _refuse("segment", f"it must be {least} at least, not {segment}: lines are in order")
    if not isinstance(id_ := row.get("id", ""), str):
        _refuse("id", "it must be a string, or left out")
    message = {name: value for name, value in row.items() if name not in (*PLACES, "id")}
    body = from_wire(message, spec)
    check_body(body, spec)
    if isinstance(body, Prompt):
        check_line(checked_prompts(body.text, "text"), "text" if "text" in row else "prompts")
    control = Control(id_, body)
    if not at_once(body):
        for name in ("from", "screen"):
            if name in row:
                _refuse(name, "only what takes effect at once has it: remove it")
        return Line(segment, control)
    goes_back = isinstance(body, Rewind)
    if "from" in row or goes_back:
        source = _whole(row, "from", way.first, segment - 1)
    else:
        source = way.before(segment)  # written by hand: on from what was made last
    screen = source
    if goes_back:
        screen = _whole(row, "screen", source, segment - 1)
    elif "screen" in row:
        _refuse("screen", "only a rewind has it: remove it")
    way.turn(segment, source)
    return Line(segment, control, source, screen)


class _Way:
    """The segments that the video came through to where it is: runs of them, the last of which goes on."""

    def __init__(self, segment: int) -> None:
        self.first = segment - 1  # the beginning
        self._runs = [[self.first, MOST]]

    def before(self, segment: int) -> int:
        """The one that it came through last."""
        return segment - 1 if self._runs[-1][0] < segment else self._runs[-2][1]

    def turn(self, segment: int, source: int) -> None:
        """The segment with this number goes on from the end of `source`."""
        runs = [*self._runs[-3:-1], [self._runs[-1][0], segment - 1]]
        while self._runs[-1][0] > source:
            self._runs.pop()
        if source > self._runs[-1][1]:
            known = ", ".join(f"{a} to {b}" for a, b in runs if a <= b)
            _refuse("from", f"the video did not come through segment {source}, but lately through {known}")
        self._runs[-1][1] = source
        self._runs.append([segment, MOST])
