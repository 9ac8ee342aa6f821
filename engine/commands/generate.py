"""`psistream generate`: make a video file from a prompt and a script, without a server."""

from __future__ import annotations

import argparse
import logging
import math
import secrets
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from engine.backends.registry import load_backend
from engine.commandline.outputs import check_output
from engine.commandline.parser import Parser, check_unused
from engine.commandline.runner import INTERRUPTED, OK, run
from engine.commands.interrupt import stop_on_signals
from engine.commands.model_options import add_model
from engine.errors import InvalidInput
from engine.images import read_image
from engine.runtime.offline import segments
from engine.runtime.segment.continuing import read_video
from engine.script import parse_script
from engine.video import Mp4Writer
from engine.wire.fields import MAX_SEED

MAX_SECONDS = 24 * 3600.0


def main(argv: Sequence[str] | None = None) -> int:
    console = Console(stderr=True)
    logging.basicConfig(level=logging.ERROR, format="%(message)s")  # `run` reports errors that users can fix
    return run("psistream generate", lambda: _generate(_parser().parse_args(argv), console))


def _generate(args: argparse.Namespace, console: Console) -> int:
    check_output(args.out, "--out")
    if args.scale == 1:
        check_unused(args, "--scale 1", "filter")
    if args.image is not None and args.video is not None:
        raise InvalidInput("give --image or --video, not both", field="video")
    seed = secrets.randbelow(MAX_SEED + 1) if args.seed is None else args.seed
    with closing(load_backend(args.backend, args.model, args.weights)) as backend:
        spec = backend.spec
        image = None if args.image is None else read_image(args.image, spec.width, spec.height)
        clip = None if args.video is None else read_video(args.video, spec)
        script = parse_script(args.script, spec.actions)
        total, start_s = max(1, round(args.seconds * spec.fps)), time.monotonic()
        writer = Mp4Writer(
            args.out,
            width=spec.width,
            height=spec.height,
            fps=spec.fps,
            scale=args.scale,
            smooth=args.filter == "lanczos",
        )
        with (
            stop_on_signals() as stop,
            _progress(console) as progress,
            writer,
            closing(
                segments(backend, prompt=args.prompt, seed=seed, image=image, video=clip, script=script)
            ) as made,
        ):
            task = progress.add_task(args.out.name, total=total, speed="")
            while writer.frames < total and not stop.is_set():
                for frame in next(made).frames[: total - writer.frames]:
                    writer.add(frame)
                speed = writer.frames / spec.fps / (time.monotonic() - start_s)
                progress.update(task, completed=writer.frames, speed=f"{speed:.1f}x real time")
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


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="psistream generate", description="Make a video file from a prompt, without a server."
    )
    parser.add_argument("--prompt", required=True, help="what the video shows")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.mp4")
    parser.add_argument("--seconds", type=_seconds, default=10.0, help="length of the video (default 10)")
    parser.add_argument("--seed", type=_seed, help="the same seed gives the same video (default: random)")
    parser.add_argument("--image", type=Path, metavar="FILE", help="PNG, JPEG or WebP file to start from")
    parser.add_argument(
        "--video", type=Path, metavar="FILE", help="a clip to continue: its last seconds and its first frame"
    )
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
