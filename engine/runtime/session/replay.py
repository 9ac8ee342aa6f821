"""Replays a control log, segment by segment; bit for bit on the same backend if the session ran alone.

It uses the same Timeline as a live session, with a past that goes back to the moments in the log instead of
using the clock. This module knows no time, clients or files.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from engine.backends.base import Backend
from engine.errors import BackendError, InvalidInput
from engine.model.signature import ModelSpec
from engine.runtime.log.control_log import Line, LogStart
from engine.runtime.log.reader import Log
from engine.runtime.segment.generator import Generator
from engine.runtime.session.timeline import Timeline, prepare_all
from engine.runtime.state.change import Change, total
from engine.runtime.state.opening import Opening, opened
from engine.runtime.state.past import Moment, first_moment
from engine.types import ByteArray, OpenSession


class Replayed(NamedTuple):
    """One segment. `shown` is False where a later control replaced it before it was on the screen."""

    segment: int
    frames: ByteArray  # (F, H, W, 3) RGB
    shown: bool


class ReplayPast:
    """Goes back to `goal`. Keeps only the moments that the log goes back to, but all changes."""

    def __init__(self, first: Moment, wanted: Iterable[int]) -> None:
        """`wanted`: the segments that the log goes back to, as often as it does."""
        self.goal = first.segment
        self._wanted = Counter(wanted)
        self._kept: tuple[Moment, ...] = ()
        self._latest = first
        self._changes: dict[int, Change] = {}

    @property
    def moments(self) -> tuple[Moment, ...]:
        return (*self._kept, self._latest)

    def went(self, to: int) -> None:
        self._wanted[to] -= 1

    def add(self, moment: Moment) -> None:
        if self._wanted[self._latest.segment] > 0:
            self._kept = (*self._kept, self._latest)
        self._latest = moment

    def note(self, change: Change) -> None:
        at = self._latest.segment
        made = self._changes.get(at)
        self._changes[at] = change if made is None else made.then(change)
        self._latest = replace(self._latest, change=self._changes[at])

    def on_screen(self, now_s: float) -> Moment:
        for moment in self.moments:
            if moment.segment == self.goal:
                return moment
        raise InvalidInput(f"from: the video did not come through segment {self.goal}", field="from")

    def ago(self, seconds: float, now_s: float) -> Moment:
        return self.on_screen(now_s)

    def position_s(self, now_s: float) -> float:
        return 0.0

    def since(self, moment: Moment) -> Change | None:
        return total(change for at, change in sorted(self._changes.items()) if at >= moment.segment)

    def forget_after(self, moment: Moment) -> None:
        self._kept = tuple(m for m in self._kept if m.segment < moment.segment)
        self._changes = {at: change for at, change in self._changes.items() if at < moment.segment}
        self._latest = replace(moment, change=None)


def replay(log: Log, backend: Backend) -> Iterator[Replayed]:
    """The log's segments, and then as many more as are wanted. Raises InvalidInput, BackendError."""
    generator = Generator(backend, log.context_noise)
    opening = _opening(log.start, backend.spec)
    past = ReplayPast(
        first_moment(opening, 0.0, log.start.segment - 1),
        [line.source for line in log.lines if line.source is not None],
    )
    timeline = Timeline("replay", opening, backend.spec, past, None)
    timeline.segment, timeline.first = log.start.segment, log.before
    done, lines, seen = 0, log.lines, _seen(log.lines)
    while True:
        while done < len(lines) and lines[done].segment == timeline.segment:
            _apply(lines[done], timeline, past)
            done += 1
        prepare_all(generator.conditioner, [timeline])
        job = timeline.job()
        made = generator.finish([job], generator.denoise([job]))[0]
        if made.frames is None:
            raise BackendError("the model produced numbers that are not finite")
        number = timeline.segment
        timeline.advance(0.0, 0.0)
        yield Replayed(number, made.frames, number <= seen[done])


def _opening(start: LogStart, spec: ModelSpec) -> Opening:
    if start.saved is None:
        return opened(OpenSession("replay", start.prompts, start.seed, start.image), spec)
    state, prompts, held = start.saved
    changed = start.change.prompts if start.change else None
    return Opening(state.copy(), changed or prompts, held, start.change)


def _apply(line: Line, timeline: Timeline, past: ReplayPast) -> None:
    past.goal = line.segment - 1 if line.source is None else line.source
    answer = timeline.apply(line.control, 0.0)
    if line.source is not None:
        past.went(line.source)
    if answer.status == "rejected":
        raise InvalidInput(
            f"log: the control {line.control.id!r} at segment {line.segment}: {answer.message}"
        )


def _seen(lines: Sequence[Line]) -> list[float]:
    """By number of lines applied so far: the last segment that is shown of those made before the next line.
    Later ones were dropped before they were on the screen."""
    seen = [math.inf]
    for line in reversed(lines):
        seen.append(seen[-1] if line.screen is None else min(seen[-1], line.screen))
    return seen[::-1]
