"""`psistream generate`: a video file from a prompt and a script, with no server, as fast as the device goes.

The same engine as the server's, on a clock that jumps: what is steered here is steered there.
"""

from __future__ import annotations

import argparse
import logging
import math
import secrets
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from engine.backends.base import Backend
from engine.backends.registry import load_backend
from engine.command import INTERRUPTED, OK, Parser, add_model, run
from engine.config import RuntimeConfig
from engine.errors import BackendError, InvalidInput
from engine.images import read_image
from engine.runtime.device.engine import Engine
from engine.script import Entry, parse_script
from engine.types import (
    ByteArray,
    Control,
    OpenSession,
    Receipt,
    RuntimeEvent,
    SegmentReady,
    SessionClosed,
)
from engine.video import Mp4Writer
from engine.wire.controls import control_json
from engine.wire.fields import MAX_SEED
from engine.wire.parse import parse_control, parse_new_session

MAX_SECONDS = 24 * 3600.0
SESSION = "video"


def main(argv: Sequence[str] | None = None) -> int:
    console = Console(stderr=True)
    logging.basicConfig(level=logging.ERROR, format="%(message)s")  # what a user can mend is said below
    return run("psistream generate", lambda: _generate(_parser().parse_args(argv), console))


def segments(
    backend: Backend,
    *,
    prompt: str,
    seed: int = 0,
    image: ByteArray | None = None,
    script: Sequence[Entry] = (),
) -> Generator[SegmentReady]:
    """An endless video of one session, as fast as it can be made; close the iterator to stop.

    Script entries take effect at the segment boundary nearest to their time. Raises InvalidInput for a bad
    prompt, seed or entry, BackendError where the session fails."""
    clock = _JumpingClock()
    events: deque[RuntimeEvent] = deque()
    engine = Engine(backend, RuntimeConfig(max_sessions=1), events.append, clock)
    waiting = deque((entry.at_s, _control(entry)) for entry in sorted(script, key=lambda entry: entry.at_s))
    segment_s, made = backend.spec.segment_s, 0
    try:
        opening = parse_new_session({"prompt": prompt, "seed": seed})[0]
        engine.open(OpenSession(SESSION, opening.prompt, opening.seed, image))
        engine.set_watched(SESSION, True)
        while True:
            while waiting and waiting[0][0] < (made + 0.5) * segment_s:
                engine.submit(SESSION, waiting.popleft()[1])
            clock.jump(engine.step())
            while events:
                match events.popleft():
                    case SegmentReady() as segment:
                        made += 1
                        yield segment
                    case Receipt(status="rejected", message=message):
                        raise InvalidInput(f"script: {message}", field="script")
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
        raise InvalidInput(f"script: {error.message}", field="script") from None


class _JumpingClock:
    def __init__(self) -> None:
        self._now_s = 0.0

    def __call__(self) -> float:
        return self._now_s

    def jump(self, to_s: float | None) -> None:
        if to_s is not None:
            self._now_s = max(self._now_s, to_s)


def _generate(args: argparse.Namespace, console: Console) -> int:
    seed = secrets.randbelow(MAX_SEED + 1) if args.seed is None else args.seed
    backend = load_backend(args.backend, args.model, args.weights)
    spec = backend.spec
    try:
        image = None if args.image is None else read_image(args.image, spec.width, spec.height)
        made = segments(
            backend,
            prompt=args.prompt,
            seed=seed,
            image=image,
            script=parse_script(args.script, spec.actions),
        )
        total, start_s = max(1, round(args.seconds * spec.fps)), time.monotonic()
        writer = Mp4Writer(
            args.out,
            width=spec.width,
            height=spec.height,
            fps=spec.fps,
            scale=args.scale,
            smooth=args.filter == "lanczos",
        )
        with _stop_on_interrupt() as stop, _progress(console) as progress, writer:
            task = progress.add_task(args.out.name, total=total, speed="")
            while writer.frames < total and not stop.is_set():
                for frame in next(made).frames[: total - writer.frames]:
                    writer.add(frame)
                speed = writer.frames / spec.fps / (time.monotonic() - start_s)
                progress.update(task, completed=writer.frames, speed=f"{speed:.1f}x real time")
        made.close()
    finally:
        backend.close()
    width, height = writer.size
    video = f"{writer.frames / spec.fps:g} s, {width}x{height} at {spec.fps} fps, seed {seed}"
    if stop.is_set():
        print(f"{args.out}: {video} (interrupted)" if writer.frames else "interrupted before the first frame")
        return INTERRUPTED
    print(f"{args.out}: {video}")
    return OK


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    return Progress(*columns, TextColumn("{task.fields[speed]}"), console=console)


@contextmanager
def _stop_on_interrupt() -> Iterator[threading.Event]:
    """Ctrl-C sets the event, so that the file is finished first; a second one interrupts as usual."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def interrupt(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="psistream generate", description="Make a video file from a prompt, with no server.")
    parser.add_argument("--prompt", required=True, help="what the video shows")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.mp4")
    parser.add_argument("--seconds", type=_seconds, default=10.0, help="length of the video (default 10)")
    parser.add_argument("--seed", type=_seed, help="the same seed gives the same video (default: any)")
    parser.add_argument("--image", type=Path, metavar="FILE", help="PNG, JPEG or WebP to start from")
    parser.add_argument(
        "--script", default="", help='steering, such as "2s:right,4s:prompt=a snowy city,6s:cut=a red fox"'
    )
    parser.add_argument(
        "--scale", type=_scale, default=4, help="enlarge the picture 1 to 16 times (default 4)"
    )
    parser.add_argument("--filter", choices=("nearest", "lanczos"), default="lanczos", help="how to enlarge")
    add_model(parser)
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or not 0 < value <= MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"must be more than 0 and at most {MAX_SECONDS:g}, not {text}")
    return value


def _seed(text: str) -> int:
    value = int(text)
    if not 0 <= value <= MAX_SEED:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to {MAX_SEED}, not {text}")
    return value


def _scale(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 16:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to 16, not {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
