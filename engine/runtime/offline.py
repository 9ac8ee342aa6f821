"""Plays one session as fast as the device allows, without a server.

The same engine as the server's, on a clock that jumps to the next segment, so steering behaves the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator as Iterates
from collections.abc import Sequence

from engine.backends.base import Backend
from engine.config import RuntimeConfig
from engine.errors import BackendError, InvalidInput
from engine.runtime.device.engine import Engine
from engine.runtime.segment.continuing import snapshot_of
from engine.runtime.segment.generator import Generator
from engine.runtime.state.change import as_prompts
from engine.script import Entry
from engine.types import (
    ByteArray,
    Control,
    OpenSession,
    Receipt,
    RuntimeEvent,
    SegmentReady,
    SessionClosed,
)
from engine.wire.controls import control_json
from engine.wire.parse import parse_control, parse_new_session

SESSION = "video"


def segments(
    backend: Backend,
    *,
    prompt: str,
    seed: int = 0,
    image: ByteArray | None = None,
    video: ByteArray | None = None,
    script: Sequence[Entry] = (),
) -> Iterates[SegmentReady]:
    """The endless video of one session, segment by segment; close the generator to stop.

    `video` (1 + T, 3, H, W) is what it starts from (engine.runtime.segment.continuing). Script entries take
    effect at the segment boundary nearest to their time. Raises InvalidInput for a bad
    prompt, seed or entry, BackendError if the session fails."""
    clock = _JumpingClock()
    events: deque[RuntimeEvent] = deque()
    engine = Engine(backend, RuntimeConfig(max_sessions=1), events.append, clock)
    pending = deque((entry.at_s, _control(entry)) for entry in sorted(script, key=lambda entry: entry.at_s))
    segment_s, made = backend.spec.segment_s, 0
    try:
        opening = parse_new_session({"prompt": prompt, "seed": seed})[0]
        start = OpenSession(SESSION, opening.prompt, opening.seed, image)
        if video is not None:
            given = as_prompts(opening.prompt or ""), opening.seed or 0, backend.fingerprint
            start = OpenSession(SESSION, None, None, snapshot=snapshot_of(Generator(backend), video, *given))
        engine.open(start)
        engine.set_watched(SESSION, True)
        while True:
            while pending and pending[0][0] < (made + 0.5) * segment_s:
                engine.submit(SESSION, pending.popleft()[1])
            clock.jump(engine.step())
            while events:
                match events.popleft():
                    case SegmentReady() as segment:
                        made += 1
                        yield segment
                    case Receipt(status="rejected", message=message):
                        raise InvalidInput(f"--script: {message}", field="script")
                    case SessionClosed(message=message):
                        raise BackendError(f"the video ended after {made * segment_s:g} s: {message}")
                    case _:
                        pass
    finally:
        engine.close()


def _control(entry: Entry) -> Control:
    try:
        return parse_control(control_json(entry.body))
    except InvalidInput as error:
        raise InvalidInput(f"--script: {error.message}", field="script") from None


class _JumpingClock:
    def __init__(self) -> None:
        self._now_s = 0.0

    def __call__(self) -> float:
        return self._now_s

    def jump(self, to_s: float | None) -> None:
        if to_s is not None:
            self._now_s = max(self._now_s, to_s)
