"""A control log → its video again, segment by segment, bit for bit on the same backend where it ran alone.

The same Story as the live session's, with a past that goes where the log says instead of by the clock. It
knows no time, clients or files.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from engine.backends.base import Backend
from engine.errors import BackendError, InvalidInput
from engine.runtime.log.control_log import Line
from engine.runtime.log.reader import Log
from engine.runtime.segment.generator import Generator
from engine.runtime.session.timeline import Story, prepare_all
from engine.runtime.state import snapshot
from engine.runtime.state.opening import Origin
from engine.runtime.state.past import Moment, Past
from engine.runtime.state.state import SessionState
from engine.types import ByteArray, Control, OpenSession


class Made(NamedTuple):
    """One segment. `shown`: nothing that came later took its place before it was its turn."""

    segment: int
    frames: ByteArray  # (F, H, W, 3) RGB
    shown: bool


class _Told(Past):
    """It goes where it is told. Only states that are gone back to are kept, and all that was changed."""

    def __init__(self, first: Moment, wanted: Iterable[int]) -> None:
        super().__init__(first, 0)
        self.goal = first.segment
        self._wanted = Counter(wanted)
        self._nothing = replace(first, state=SessionState.__new__(SessionState)).state

    def went(self, to: int) -> None:
        self._wanted[to] -= 1

    def add(self, moment: Moment) -> None:
        *earlier, latest = self.moments
        if self._wanted[latest.segment] > 0:
            earlier.append(latest)
        elif latest.change is not None:
            earlier.append(replace(latest, state=self._nothing))
        self.moments = (*earlier, moment)

    def on_screen(self, now_s: float) -> Moment:
        for moment in self.moments:
            if moment.segment == self.goal:
                return moment
        raise InvalidInput(
            f"from: the video that is on did not come through segment {self.goal}", field="from"
        )

    def ago(self, seconds: float, now_s: float) -> Moment:
        return self.on_screen(now_s)


class _Retold(Story):
    """It writes no log of its own."""

    def _write(self, control: Control) -> None:
        pass


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
    story = _Retold(command, spec, 0.0, source, backend.fingerprint)
    story.segment, story.first = begin.segment, log.before
    first = replace(story.past.moments[0], segment=begin.segment - 1)
    story.past = past = _Told(first, [line.source for line in log.lines if line.source is not None])
    done, lines, seen = 0, log.lines, _seen(log.lines)
    while True:
        while done < len(lines) and lines[done].segment == story.segment:
            line = lines[done]
            done += 1
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
        yield Made(number, made.frames, number <= seen[done])


def _seen(lines: Sequence[Line]) -> list[float]:
    """By how many lines are done: up to which segment those come to be shown that were made before the rest;
    what was made beyond that was dropped before it was its turn."""
    seen = [math.inf]
    for line in reversed(lines):
        seen.append(seen[-1] if line.screen is None else min(seen[-1], line.screen))
    return seen[::-1]
