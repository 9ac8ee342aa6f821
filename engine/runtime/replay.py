"""A control log → its video again, segment by segment, bit for bit on the same backend where it ran alone.

The same Story as the live session's, with a past that goes where the log says instead of by the clock. It
knows no time, clients or files.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from engine.backends.base import Backend
from engine.errors import BackendError, InvalidInput
from engine.model.signature import ModelSpec
from engine.runtime import snapshot
from engine.runtime.change import Change, NewScene
from engine.runtime.checks import check_seed, checked_prompts
from engine.runtime.controllog import FORMAT, Begin, Line
from engine.runtime.generator import Generator
from engine.runtime.inbox import at_once
from engine.runtime.origin import Origin
from engine.runtime.past import Moment, Past
from engine.runtime.state import SessionState
from engine.runtime.story import Story, prepare_all
from engine.runtime.wire import binary, from_wire, pixels_of, weighted_of
from engine.types import ByteArray, Control, OpenSession

Found = TypeVar("Found")
HEADER = (
    ("format", "model", "weights", "backend", "context_noise", "segments", "lost"),
    ("prompts", "seed", "image"),
    ("segment", "snapshot", "change"),
)


class Log(NamedTuple):
    begin: Begin
    lines: list[Line]
    segments: int  # how many there were; more can be made
    backend: str
    context_noise: float | None


class Made(NamedTuple):
    """One segment. `shown`: nothing that came later took its place before it was its turn."""

    segment: int
    frames: ByteArray  # (F, H, W, 3) RGB
    shown: bool


# ---- reading ----


def read_log(data: bytes, spec: ModelSpec, fingerprint: str) -> Log:
    """Raises InvalidInput that names the line, the field and the fix."""
    rows = [(n, row) for n, row in enumerate(data.split(b"\n"), 1) if row.strip()]
    if not rows:
        raise InvalidInput("log: it is empty", field="log")
    header = _at(rows[0], lambda row: _header(row, spec, fingerprint))
    lines: list[Line] = []
    for row in rows[1:]:
        line = _at(row, lambda row: _line(row, spec))
        least = lines[-1].segment if lines else header.begin.segment
        if line.segment < least:
            raise _fault(row[0], f"segment must be {least} at least: lines are in order", "segment")
        lines.append(line)
    return header._replace(lines=lines, segments=max([header.segments, *(li.segment + 1 for li in lines)]))


def _at(row: tuple[int, bytes], read: Callable[[dict[str, Any]], Found]) -> Found:
    number, text = row
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _fault(number, f"it is not JSON: {error}", "log") from None
    if not isinstance(value, dict):
        raise _fault(number, "it must be a JSON object", "log")
    try:
        return read(value)
    except InvalidInput as error:
        raise _fault(number, error.message, error.field or "log") from None
    except TypeError:
        raise _fault(number, "a field has a value of the wrong kind", "log") from None


def _fault(line: int, what: str, field: str) -> InvalidInput:
    return InvalidInput(f"log: line {line}: {what}", field=field)


def _header(row: dict[str, Any], spec: ModelSpec, fingerprint: str) -> Log:
    if row.get("format") != FORMAT:
        raise InvalidInput(f"format must be {FORMAT}: is this a control log?", field="format")
    of = row.get("model"), row.get("weights")
    if of != (spec.name, fingerprint):
        theirs = f"{of[0]!s:.60} (weights {of[1]!s:.20})"
        raise InvalidInput(
            f"it is of the model {theirs}, here runs {spec.name} (weights {fingerprint})", field="model"
        )
    known = [*HEADER[0], *HEADER[2 if "snapshot" in row else 1]]
    for name in row:
        if name not in known:
            raise InvalidInput(
                f"{name} is not a known field: remove it (known: {', '.join(known)})", field=name
            )
    noise = row.get("context_noise")
    if noise is not None and not (isinstance(noise, int | float) and 0 <= noise <= 1):
        raise InvalidInput("context_noise must be null or a number from 0 to 1", field="context_noise")
    begin = _from_snapshot(row, spec) if "snapshot" in row else _from_prompt(row, spec)
    return Log(begin, [], _whole(row, "segments", 0), str(row.get("backend", "")), noise)


def _from_prompt(row: dict[str, Any], spec: ModelSpec) -> Begin:
    prompts = checked_prompts(weighted_of(row.get("prompts"), "prompts"), "prompts")
    check_seed(row.get("seed"), "seed")
    image = None if row.get("image") is None else pixels_of(row["image"], spec, "image")
    return Begin(0, prompts, row["seed"], image)


def _from_snapshot(row: dict[str, Any], spec: ModelSpec) -> Begin:
    change = row.get("change")
    first = _whole(row, "segment", 0)
    data = binary(row["snapshot"], "snapshot")
    return Begin(first, snapshot=data, change=None if change is None else _change(change, spec))


def _change(value: dict[str, Any], spec: ModelSpec) -> Change:
    try:
        prompts, scene = value["prompts"], value["scene"]
        if scene is not None:
            image = None if scene["image"] is None else pixels_of(scene["image"], spec, "change")
            check_seed(scene["seed"], "change")
            scene = NewScene(scene["seed"], _whole(scene, "number", 0), image, bool(scene["keep_anchor"]))
        if prompts is not None:
            prompts = checked_prompts(weighted_of(prompts, "change"), "change")
        return Change(prompts, _whole(value, "over", 1), scene)
    except (KeyError, TypeError):
        raise InvalidInput(
            "change must have prompts, over and scene, as it was written", field="change"
        ) from None


def _line(row: dict[str, Any], spec: ModelSpec) -> Line:
    places = {name: _whole(row, name, -1) for name in ("from", "screen") if name in row}
    segment = _whole(row, "segment", 0)
    message = {name: value for name, value in row.items() if name not in ("segment", "from", "screen", "id")}
    control = Control(str(row.get("id", "")), from_wire(message, spec))
    source = places.get("from")
    if at_once(control.body) and source is None:
        source = segment - 1  # written by hand: on from what was made last
    if source is not None and (source >= segment or not at_once(control.body)):
        raise InvalidInput(
            "from must be an earlier segment, and only what takes effect at once has it", field="from"
        )
    return Line(segment, control, source, places.get("screen", source))


def _whole(row: Mapping[str, Any], name: str, least: int) -> int:
    value = row.get(name, least)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InvalidInput(f"{name} must be a whole number from {least} up", field=name)
    return value


# ---- playing ----


class _Told(Past):
    """It goes where it is told. Only states that are gone back to are kept."""

    def __init__(self, first: Moment, wanted: Iterable[int]) -> None:
        super().__init__(first, 0)
        self.goal = first.segment
        self._wanted = Counter(wanted)
        self._nothing = replace(first, state=SessionState.__new__(SessionState)).state

    def went(self, to: int) -> None:
        self._wanted[to] -= 1

    def add(self, moment: Moment) -> None:
        if self._wanted[self.moments[-1].segment] <= 0:
            self.moments = (*self.moments[:-1], replace(self.moments[-1], state=self._nothing))
        self.moments = (*self.moments, moment)

    def on_screen(self, now_s: float) -> Moment:
        for moment in self.moments:
            if moment.segment == self.goal:
                return moment
        raise InvalidInput(
            f"from: the video that is on did not come through segment {self.goal}", field="from"
        )

    def ago(self, seconds: float, now_s: float) -> Moment:
        return self.on_screen(now_s)


def replay(log: Log, backend: Backend) -> Iterator[Made]:
    """The segments that the log tells of, then as many as are wanted. Raises InvalidInput, BackendError."""
    spec, begin = backend.spec, log.begin
    generator = Generator(backend, log.context_noise)
    command = OpenSession("replay", None, None)
    source = None
    if begin.snapshot is None:
        command = OpenSession("replay", begin.prompts, begin.seed, begin.image)
    else:
        saved = snapshot.load(spec, backend.fingerprint, begin.snapshot)
        told = (begin.change.prompts if begin.change else None) or saved.prompts
        source = Origin(saved.state, told, saved.held, begin.change)
    story = Story(command, spec, 0.0, source, backend.fingerprint)
    story.segment = begin.segment
    first = replace(story.past.moments[0], segment=begin.segment - 1)
    story.past = past = _Told(first, [line.source for line in log.lines if line.source is not None])
    waiting, unseen = list(log.lines), _unseen(log.lines)
    while True:
        while waiting and waiting[0].segment == story.segment:
            line = waiting.pop(0)
            past.goal = line.segment - 1 if line.source is None else line.source
            answer = story.apply(line.control, 0.0)
            if line.source is not None:
                past.went(line.source)
            if answer.status == "rejected":
                raise InvalidInput(
                    f"log: the control {line.control.id!r} at segment {line.segment}: {answer.message}"
                )
        prepare_all(generator, [story])
        job = story.job()
        made = generator.finish([job], generator.denoise([job]))[0]
        if made.frames is None:
            raise BackendError("the model's numbers ran away")
        number = story.segment
        story.advanced(0.0, 0.0)
        yield Made(number, made.frames, number not in unseen)


def _unseen(lines: Sequence[Line]) -> set[int]:
    """Segments that were made, and dropped before it was their turn."""
    return {n for line in lines if line.screen is not None for n in range(line.screen + 1, line.segment)}
