"""`psistream view`: watch a session's figures in the terminal, steer it, record its video, save its moments.

It knows arguments and how things look; the connection is clients.whep, the video's file clients.view.record,
what steers clients.view.steering, and a session's moments clients.view.moments.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from clients.pace import pace, stands
from clients.view import moments
from clients.view.record import Recorder, RecordError, preferred_codecs
from clients.view.steering import Steering, add_arguments, asked
from clients.whep import CODECS, Picture, Target, Viewer, ViewError

EVERY_S = 0.25
WINDOW_S = 5.0
FIRST_FRAME_S = 15.0
SILENCE_S = 45.0  # the server needs 30 to notice that a device hangs, and goes on in another process then


class Figures:
    """What was seen in the last seconds. Knows no terminal."""

    def __init__(self) -> None:
        self.frames = 0
        self.size = ""
        self.codec = ""
        self.segment: dict[str, Any] = {}
        self.session: dict[str, Any] = {}
        self.last_s = time.perf_counter()
        self._arrivals: deque[float] = deque(maxlen=2000)
        self._bytes: deque[tuple[float, int]] = deque(maxlen=2000)

    def picture(self, picture: Picture) -> None:
        self.frames += 1
        self.size = f"{picture.frame.width} × {picture.frame.height}"
        self.last_s = picture.at_s
        self._arrivals.append(picture.at_s)

    def encoded(self, codec: str, size: int) -> None:
        self.codec = codec
        self._bytes.append((time.perf_counter(), size))

    def message(self, message: dict[str, Any]) -> None:
        if message.get("type") == "segment":
            self.segment = message
        elif message.get("type") == "session":
            if stands(self.session) and not stands(message):
                self.last_s = time.perf_counter()  # from here on there have to be pictures again
            self.session = message

    def silence(self, now_s: float, heard_s: float) -> str:
        """Why there is nothing to wait for any more; "" as long as there is. While the picture stands for a
        reason, it is enough that the server was heard of, at `heard_s`."""
        if stands(self.session):
            lost, what = now_s - heard_s > SILENCE_S, "no answer"
        else:
            lost, what = now_s - self.last_s > SILENCE_S, "no frame"
        return f"{what} for {SILENCE_S:g} s; is the server still making video?" if lost else ""

    @property
    def fps(self) -> float:
        recent = self._recent()
        return (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 1 else 0.0

    @property
    def kbps(self) -> float:
        since = time.perf_counter() - WINDOW_S
        recent = [(at, size) for at, size in self._bytes if at >= since]
        if len(recent) < 2:
            return 0.0
        return sum(size for _, size in recent[1:]) * 8 / 1000 / (recent[-1][0] - recent[0][0])

    def interval_ms(self, share: float) -> float:
        recent = self._recent()
        steps = sorted(1000 * (b - a) for a, b in pairwise(recent))
        return steps[min(int(share * len(steps)), len(steps) - 1)] if steps else math.nan

    def _recent(self) -> list[float]:
        since = time.perf_counter() - WINDOW_S
        return [at for at in self._arrivals if at >= since]


def table(figures: Figures, viewer: Viewer, recorder: Recorder | None, steering: Steering) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column()

    def row(name: str, text: str) -> None:
        grid.add_row(
            name, Text("".join(c if c.isprintable() else " " for c in text))
        )  # others' words: no markup

    row("session", f"{viewer.target.session} at {viewer.target.base}")
    if session := figures.session:
        row("prompt", f"{session.get('prompt', '')}{' (paused)' if session.get('paused') else ''}")
    for name, text in steering.rows():
        row(name, text)
    if slow := pace(figures.session, figures.segment):
        row("device", f"slower than the video: {slow}")
    p50, p95 = figures.interval_ms(0.5), figures.interval_ms(0.95)
    row(
        "frames",
        f"{figures.fps:.1f} fps, interval p50 {p50:.0f} ms, p95 {p95:.0f} ms, {figures.frames} so far",
    )
    row("video", f"{figures.codec} {figures.size}, {figures.kbps:.0f} kbit/s")
    if viewer.first_picture_s is not None:
        row("first frame", f"{1000 * (viewer.first_picture_s - viewer.started_s):.0f} ms after asking")
    if viewer.rtt_s is not None:
        row("round trip", f"{1000 * viewer.rtt_s:.1f} ms")
    if segment := figures.segment:
        total, lead = segment.get("timings_ms", {}).get("total", math.nan), segment.get("lead_ms", math.nan)
        row("segment", f"{total:.0f} ms to make, ready {lead:.0f} ms ahead")
        row("state", f"{segment.get('state_bytes', 0):,} bytes".replace(",", " "))
    if recorder is not None:
        how = recorder.mode or "waiting for a keyframe"
        row("recording", f"{recorder.path}: {recorder.seconds:.1f} s, {how}")
    return grid


async def watch(
    target: Target,
    recorder: Recorder | None,
    seconds: float | None,
    console: Console,
    steering: Steering,
    save: Path | None = None,
) -> Figures:
    """Until the time is over, the file is full, the session ends (ViewError) or somebody presses Ctrl+C.
    What is on the screen last goes to `save`."""
    figures = Figures()
    codecs = CODECS if recorder is None else preferred_codecs(recorder.path)
    viewer = Viewer(target, codecs=codecs)
    waiting, fault = "", ""

    def hear(message: dict[str, Any]) -> None:
        nonlocal waiting, fault
        figures.message(message)
        try:
            steering.hear(message)
        except ViewError as error:
            fault = str(error)
        if not waiting and not figures.frames and stands(figures.session):
            waiting = pace(figures.session, {}) or "the session is paused"
            console.print(f"no picture yet: {waiting}")

    viewer.on_picture, viewer.on_message = figures.picture, hear
    stop = asyncio.Event()
    try:
        async with viewer:
            # Only now: what came before the answer has no codec name yet.
            def keep(codec: str, encoded: Any) -> None:
                figures.encoded(codec, len(encoded.data))
                if recorder is not None:
                    recorder.write(codec, encoded.data, encoded.rtp_timestamp)

            viewer.on_encoded = keep
            await viewer.ready(FIRST_FRAME_S)
            with contextlib.suppress(NotImplementedError):  # from here on Ctrl+C finishes the file
                for number in (signal.SIGINT, signal.SIGTERM):
                    asyncio.get_running_loop().add_signal_handler(number, stop.set)
            steering.send(viewer.send)
            begun_s = time.perf_counter()
            with Live(console=console, refresh_per_second=4) as live:
                while not stop.is_set():
                    live.update(table(figures, viewer, recorder, steering))
                    now_s = time.perf_counter()
                    if viewer.ended.is_set():
                        raise ViewError(viewer.end_reason)
                    if fault:
                        raise ViewError(fault)
                    if gone := figures.silence(now_s, viewer.heard_s):
                        raise ViewError(gone)
                    if recorder is not None and recorder.full:
                        break
                    if seconds is not None and recorder is None and now_s - begun_s >= seconds:
                        break
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(stop.wait(), EVERY_S)
                live.update(table(figures, viewer, recorder, steering))
            if save is not None:
                size = await moments.save(target, save)
                console.print(f"{save}: this moment, {size} bytes")
            if not console.is_terminal:  # there the last table has no line end
                console.print()
    finally:
        if recorder is not None:
            recorder.close()
    return figures


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser("psistream view", description="Watch, steer or record a running session.")
    p.add_argument("url", metavar="URL", help="http://localhost:8080, or a link to a session's page")
    p.add_argument("--session", help="which session (default: main, or the one in the link)")
    p.add_argument("--token", help="its token (default: the one in the link)")
    p.add_argument("--record", type=Path, metavar="FILE", help="keep the video: .mp4, .mov, .mkv or .webm")
    p.add_argument("--seconds", type=float, help="stop after so much video (default: at Ctrl+C)")
    add_arguments(p)
    own = p.add_argument_group("a session of one's own, which ends with this command unless it is kept")
    begin = own.add_mutually_exclusive_group()
    begin.add_argument(
        "--from", dest="file", type=Path, metavar="FILE", help="go on from a moment that was saved"
    )
    begin.add_argument(
        "--fork", type=float, nargs="?", const=0.0, metavar="SECONDS", help="another future, from so long ago"
    )
    own.add_argument("--keep", action="store_true", help="let it go on; its link is printed")
    p.add_argument("--save", type=Path, metavar="FILE", help="keep the last moment: open it with --from")
    return p


async def view(
    args: argparse.Namespace, target: Target, recorder: Recorder | None, steering: Steering, console: Console
) -> None:
    """`watch`, in a session of its own where the arguments ask for one."""
    own: Target | None = None
    if args.file is not None:
        own = await moments.restored(target, args.file)
    elif args.fork is not None:
        own = await moments.forked(target, args.fork)
    if own is not None and args.keep:
        console.print(Text(own.link), soft_wrap=True)  # a link that is broken can't be opened
    try:
        await watch(own or target, recorder, args.seconds, console, steering, args.save)
    finally:
        if own is not None and not args.keep:
            await moments.close(own)


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    console = Console()
    try:
        if args.seconds is not None and not (0 < args.seconds < math.inf):
            raise ViewError("--seconds must be more than 0")
        if args.fork is not None and not 0 <= args.fork <= 3600:
            raise ViewError("--fork must be seconds, from 0 to 3600")
        if args.keep and args.file is None and args.fork is None:
            raise ViewError("--keep is for a session that --from or --fork opens")
        steering = Steering(asked(args))
        target = Target.parse(args.url, args.session, args.token)
        if args.save is not None:
            moments.check_file(args.save)
        recorder = None if args.record is None else Recorder(args.record, args.seconds)
        asyncio.run(view(args, target, recorder, steering, console))
    except (ViewError, RecordError) as error:
        print(f"psistream view: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if recorder is not None:
        if not recorder.frames:
            print("psistream view: nothing was recorded: no keyframe arrived", file=sys.stderr)
            return 1
        size = recorder.path.stat().st_size
        console.print(f"{recorder.path}: {recorder.seconds:.2f} s, {recorder.frames} frames, {size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
