"""The options that say how a worker runs its model and encodes video: the same for `psistream serve`, which
starts workers, and for `psistream worker`, which is one."""

from __future__ import annotations

import argparse
from pathlib import Path

from engine.commands.model_options import add_model
from engine.config import RuntimeConfig
from engine.errors import InvalidInput
from server.codecs import CODECS, parse_codecs
from server.config import LogConfig, MediaConfig, WorkerConfig

# those that have an effect in the process of a worker only
OF_A_WORKER = (
    "backend",
    "model",
    "weights",
    "image",
    "video",
    "max_sessions",
    "max_load",
    "bitrate",
    "h264",
)


def add_worker_options(p: argparse.ArgumentParser) -> None:
    add, runtime = p.add_argument, RuntimeConfig()
    add_model(p)
    add("--image", type=Path, metavar="FILE", help="start image of sessions (default: prompt only)")
    add("--video", type=Path, metavar="FILE", help="clip that sessions continue, instead of --image")
    add(
        "--max-sessions",
        type=int,
        default=runtime.max_sessions,
        metavar="N",
        help="limit of sessions per worker, even if its device could serve more (default: %(default)s)",
    )
    add(
        "--max-load",
        type=float,
        default=runtime.max_load,
        metavar="SHARE",
        help="share of device time that sessions may use; above 1 they play in slow motion instead of being "
        "refused (default: %(default)s)",
    )
    add("--bitrate", type=int, metavar="KBPS", help="bitrate of the video (default: depends on its size)")
    add(
        "--codecs",
        default=",".join(CODECS),
        metavar="NAMES",
        help="what viewers may be sent; each one in use is another encoder of its session (default: all)",
    )
    add(
        "--h264",
        choices=("auto", "software"),
        default="auto",
        help="auto: encode H.264 in hardware where there is an encoder that works (default)",
    )
    add("--log-format", choices=("text", "json"), default="text", help="format of the log, on standard error")
    add("--log-level", choices=("debug", "info", "warning", "error"), default="warning")


def worker_config(args: argparse.Namespace) -> WorkerConfig:
    """Raises InvalidInput."""
    if args.image is not None and args.video is not None:
        raise InvalidInput("give --image or --video, not both", field="video")
    return WorkerConfig(
        backend=args.backend,
        model=args.model,
        weights=args.weights,
        image=args.image,
        video=args.video,
        runtime=RuntimeConfig(max_sessions=args.max_sessions, max_load=args.max_load),
        log=LogConfig(args.log_format, args.log_level.upper()),
        media=MediaConfig(
            bitrate_bps=None if args.bitrate is None else 1000 * args.bitrate,
            codecs=parse_codecs(args.codecs),
            hardware=args.h264 == "auto",
        ),
    )
