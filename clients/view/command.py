"""`psistream view`: shows a session's figures in the terminal, steers it, records it and saves moments.

This file contains the arguments and the display. The connection is in clients.whep, the rest in this folder.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import signal
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

from clients.adapter.receiver import Picture
from clients.errors import ClientError, RecordError, ViewError
from clients.pace import pace, stalled
from clients.target import Target
from clients.text import number, printable
from clients.view import moments
from clients.view.record import Recorder, preferred_codecs
from clients.view.steering import SentControls, add_arguments, asked
from clients.whep import CODECS, WhepViewer
from engine.commandline.console import OutputConsole
from engine.commandline.outputs import check_output
from engine.commandline.parser import Parser, check_belongs
from engine.commandline.runner import OK, run
from engine.errors import InvalidInput

EVERY_S = 0.25
WINDOW_S = 5.0
FIRST_FRAME_S = 15.0
SILENCE_S = 45.0  # a server may need 30 s to replace a worker whose device hangs


class Figures:
    """Collects the figures of the last seconds. Knows no terminal."""

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
            if stalled(self.session) and not stalled(message):
                self.last_s = time.perf_counter()  # from now on pictures must arrive again
            self.session = message

    def silence(self, now_s: float, heard_s: float) -> str:
        """Why waiting is pointless, or "". While the session is paused or stalled, any message from the
        server counts; the last one arrived at `heard_s`."""
        if stalled(self.session):
            lost, what = now_s - heard_s > SILENCE_S, "no answer"
        else:
            lost, what = now_s - self.last_s > SILENCE_S, "no frame"
        return f"{what} for {SILENCE_S:g} s; is the server still generating video?" if lost else ""

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


def table(figures: Figures, viewer: WhepViewer, recorder: Recorder | None, steering: SentControls) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column()

    def row(name: str, text: str) -> None:
        grid.add_row(name, Text(printable(text)))  # untrusted: no markup

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
        row("first frame", f"{1000 * (viewer.first_picture_s - viewer.started_s):.0f} ms after the request")
    if viewer.rtt_s is not None:
        row("round trip", f"{1000 * viewer.rtt_s:.1f} ms")
    if segment := figures.segment:
        timings = segment.get("timings_ms")
        total = number(timings.get("total")) if isinstance(timings, dict) else math.nan
        row("segment", f"{total:.0f} ms to generate, ready {number(segment.get('lead_ms')):.0f} ms ahead")
        row("state", f"{number(segment.get('state_bytes')):,.0f} bytes".replace(",", " "))
    if recorder is not None:
        how = recorder.mode or "waiting for a keyframe"
        row("recording", f"{recorder.path}: {recorder.seconds:.1f} s, {how}")
    return grid


async def watch(
    target: Target,
    recorder: Recorder | None,
    seconds: float | None,
    console: Console,
    steering: SentControls,
    save: Path | None = None,
) -> Figures:
    """Watch until the time is up, the file is full, the session ends (ViewError) or the user presses Ctrl+C.
    At the end, save the moment to `save`."""
    figures = Figures()
    codecs = CODECS if recorder is None else preferred_codecs(recorder.path)
    viewer = WhepViewer(target, codecs=codecs)
    waiting = ""
    fault: ClientError | None = None

    def hear(message: dict[str, Any]) -> None:
        nonlocal waiting, fault
        figures.message(message)
        try:
            steering.hear(message)
            for control in steering.lost(message):
                viewer.send(control)
        except ViewError as error:
            fault = error
        if not waiting and not figures.frames and stalled(figures.session):
            waiting = pace(figures.session, {}) or "the session is paused"
            console.print(f"no picture yet: {waiting}")

    viewer.on_picture, viewer.on_message = figures.picture, hear
    stop = asyncio.Event()
    try:
        async with viewer:
            # Set only now: before the answer, the codec of a frame is unknown.
            def keep(codec: str, encoded: Any) -> None:
                nonlocal fault
                figures.encoded(codec, len(encoded.data))
                if recorder is not None and fault is None:
                    try:
                        recorder.write(codec, encoded.data, encoded.rtp_timestamp)
                    except ClientError as error:
                        fault = error

            viewer.on_encoded = keep
            await viewer.ready(FIRST_FRAME_S)
            with contextlib.suppress(NotImplementedError):  # from now on Ctrl+C finishes the file
                for stops in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    asyncio.get_running_loop().add_signal_handler(stops, stop.set)
            steering.send(viewer.send)
            begun_s = time.perf_counter()
            with Live(console=console, refresh_per_second=4) as live:
                while not stop.is_set():
                    live.update(table(figures, viewer, recorder, steering))
                    now_s = time.perf_counter()
                    if fault is not None:
                        raise fault
                    steering.send_due(viewer.send)
                    if viewer.ended.is_set():
                        raise ViewError(viewer.end_reason)
                    if gone := figures.silence(now_s, viewer.heard_s):
                        raise ViewError(gone)
                    if recorder is not None and recorder.full:
                        break
                    if seconds is not None and recorder is None and now_s - begun_s >= seconds:
                        break
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(stop.wait(), EVERY_S)
                live.update(table(figures, viewer, recorder, steering))
            if not console.is_terminal:  # otherwise the last table lacks a newline
                console.print()
            if save is not None:
                size = await moments.save(target, save)
                console.print(f"{save}: this moment, {size} bytes")
    finally:
        if recorder is not None:
            recorder.close()
    return figures


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="psistream view", description="Watch, steer or record a running session.")
    p.add_argument("url", metavar="URL", help="http://localhost:8080, or a link to a session's page")
    p.add_argument("--session", help="the session (default: main, or the one in the link)")
    p.add_argument("--token", help="its token (default: the one in the link)")
    p.add_argument("--record", type=Path, metavar="FILE", help="record the video: .mp4, .mov, .mkv or .webm")
    p.add_argument(
        "--seconds", type=float, help="stop after this much video (default: when you press Ctrl+C)"
    )
    add_arguments(p)
    own = p.add_argument_group("a private session, which ends with this command unless it is kept")
    begin = own.add_mutually_exclusive_group()
    begin.add_argument("--from", dest="file", type=Path, metavar="FILE", help="continue from a saved moment")
    begin.add_argument(
        "--fork",
        type=float,
        nargs="?",
        const=0.0,
        metavar="SECONDS",
        help="fork the session as it was this long ago (default: now)",
    )
    own.add_argument("--keep", action="store_true", help="keep the session open, and print its link")
    p.add_argument(
        "--save", type=Path, metavar="FILE", help="save the moment at the end; open it with --from"
    )
    return p


async def view(
    args: argparse.Namespace,
    target: Target,
    recorder: Recorder | None,
    steering: SentControls,
    console: Console,
) -> None:
    """Call `watch`, with a private session if the arguments request one."""
    own: Target | None = None
    if args.file is not None:
        own = await moments.restored(target, args.file)
    elif args.fork is not None:
        own = await moments.forked(target, args.fork)
    if own is not None and args.keep:
        console.print(Text(own.link), soft_wrap=True)  # a wrapped link cannot be opened
    try:
        await watch(own or target, recorder, args.seconds, console, steering, args.save)
    finally:
        if own is not None and not args.keep:
            await moments.close(own)


def main(argv: Sequence[str] | None = None) -> int:
    return run("psistream view", lambda: _main(parser().parse_args(argv)))


def _main(args: argparse.Namespace) -> int:
    console = OutputConsole()
    if args.seconds is not None and not (0 < args.seconds < math.inf):
        raise InvalidInput("--seconds must be a number above 0")
    if args.fork is not None and not 0 <= args.fork <= 3600:
        raise InvalidInput("--fork must be a number of seconds from 0 to 3600")
    if args.file is None and args.fork is None:
        check_belongs(args, "--from or --fork", "keep")
    steering = SentControls(asked(args))
    target = Target.parse(args.url, args.session, args.token)
    check_output(args.save, "--save")
    recorder = None if args.record is None else Recorder(args.record, args.seconds)
    asyncio.run(view(args, target, recorder, steering, console))
    if recorder is None:
        return OK
    if not recorder.frames:
        raise RecordError("nothing was recorded: no keyframe arrived")
    size = recorder.path.stat().st_size
    console.print(f"{recorder.path}: {recorder.seconds:.2f} s, {recorder.frames} frames, {size} bytes")
    return OK
