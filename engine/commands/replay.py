"""`psistream replay`: make a video again from its control log, or from an edited log, without a server.

On the same backend the result is identical bit for bit. The digest that is printed at the end proves it.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from contextlib import closing, nullcontext
from pathlib import Path

from engine.backends.base import Backend
from engine.backends.registry import load_backend
from engine.commandline.outputs import check_output
from engine.commandline.parser import Parser, check_belongs
from engine.commandline.runner import INTERRUPTED, OK, reason, run
from engine.commands.interrupt import stop_on_signals
from engine.commands.model_options import add_model
from engine.errors import InvalidInput
from engine.runtime.log.header import MOST_SEGMENTS
from engine.runtime.log.reader import Log, read_log
from engine.runtime.session.replay import replay
from engine.text_files import decode_text
from engine.video import Mp4Writer

MOST_BYTES = 2**30  # a control log is far smaller


def main(argv: Sequence[str] | None = None) -> int:
    return run("psistream replay", lambda: _replay(_parser().parse_args(argv)))


def _replay(args: argparse.Namespace) -> int:
    if args.out is None:
        check_belongs(args, "--out", "scale")
    check_output(args.out, "--out")
    data = _read(args.log)
    with closing(load_backend(args.backend, args.model, args.weights)) as backend:
        log = read_log(data, backend.spec, backend.fingerprint, str(args.log))
        for warning in log.warnings:
            print(warning, file=sys.stderr)
        if log.backend not in ("", backend.name):
            print(
                f"{args.log}: made with --backend {log.backend!r:.40}; with {backend.name} the video will be "
                "similar, but not identical bit for bit",
                file=sys.stderr,
            )
        return _play(args, log, backend)


def _play(args: argparse.Namespace, log: Log, backend: Backend) -> int:
    spec, digest = backend.spec, hashlib.sha256()
    end = log.start.segment + args.segments if args.segments else log.segments
    if end <= log.start.segment:
        raise InvalidInput(
            f"{args.log}: the log holds no segments yet; say how many to make with --segments",
            field="segments",
        )
    writer = None
    if args.out is not None:
        writer = Mp4Writer(
            args.out, width=spec.width, height=spec.height, fps=spec.fps, scale=args.scale, smooth=True
        )
    shown = made = 0
    with stop_on_signals() as stop, writer or nullcontext():
        for segment in replay(log, backend):
            made += 1
            if segment.shown:
                shown += 1
                digest.update(segment.frames.tobytes())
                for frame in segment.frames if writer else ():
                    writer.add(frame)  # type: ignore[union-attr]
            if segment.segment == end - 1 or stop.is_set():
                break
    if writer:
        print(f"{args.out}: {shown * spec.segment_s:g} s")
    print(f"{made} segments, {shown} of them shown; SHA-256 of their pictures {digest.hexdigest()}")
    return INTERRUPTED if stop.is_set() else OK


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InvalidInput(
                f"{path} is larger than {MOST_BYTES >> 20} MiB, so it is not a control log", field="log"
            )
        return decode_text(path.read_bytes(), str(path), "log").encode()
    except OSError as error:
        raise InvalidInput(f"cannot read {reason(error)}", field="log") from None


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="psistream replay", description="Make a session's video again from its control log.")
    parser.add_argument("log", type=Path, metavar="LOG", help="JSON Lines, from GET /v1/sessions/{id}/log")
    parser.add_argument(
        "--out", type=Path, metavar="FILE.mp4", help="write the video (default: only its digest)"
    )
    parser.add_argument(
        "--segments", type=_count, metavar="N", help="number of segments (default: as many as the log has)"
    )
    parser.add_argument("--scale", type=_count, default=4, help="enlarge the picture (default 4)")
    add_model(parser)
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= MOST_SEGMENTS:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {MOST_SEGMENTS}, not {text}")
    return int(text)
