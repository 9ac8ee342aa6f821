"""`psistream bench`: arguments → a benchmark, a table and a line of JSON."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import BenchError, Report
from benchmarks.server import Subject, own_server, running_server
from clients.whep import ViewError

QUIET = ("aiortc", "aioice", "httpx")
OTHERS = {
    "export": "the denoiser in ONNX Runtime, OpenVINO and PyTorch (needs the export extra)",
}


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser("psistream bench", description="Measure a server, its own or a running one.")
    what = p.add_subparsers(dest="what", required=True, metavar="WHAT")
    for name, about in OTHERS.items():
        what.add_parser(name, help=about, add_help=False)
    latency = what.add_parser("latency", help="prompt to photon, time to first frame, frame interval")
    latency.add_argument("--n", type=int, default=20, help="of each kind (default: %(default)s)")
    latency.add_argument("--joins", type=int, default=8, help="joins timed (default: %(default)s)")
    soak = what.add_parser("soak", help="segment time and memory at the start and at the end")
    soak.add_argument("--minutes", type=float, default=10.0, help="how long (default: %(default)s)")
    for each in (latency, soak):
        each.add_argument(
            "--warm-up", type=float, default=2.0, metavar="S", help="seconds that don't count (2)"
        )
        each.add_argument("--url", help="a server that runs (default: start one, stop it afterwards)")
        each.add_argument("--session", help="with --url: which session (default: a new one)")
        each.add_argument("--token", help="with --url: its token")
        each.add_argument("--backend", help="without --url: the backend to start (default: the server's)")
        each.add_argument("--model", type=Path, metavar="DIR", help="without --url: the model to load")
        each.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    return p


def subject_of(args: argparse.Namespace) -> contextlib.AbstractContextManager[Subject]:
    """Raises BenchError, ViewError when entered."""
    if args.url is not None:
        return running_server(args.url, args.session, args.token)
    extra = ["--backend", args.backend] if args.backend else []
    return own_server(extra + (["--model", str(args.model)] if args.model else []))


def check(args: argparse.Namespace) -> None:
    """Raises BenchError: before anything is started."""
    if args.what == "latency" and (args.n < 1 or args.joins < 1):
        raise BenchError("--n and --joins must be at least 1")
    if args.what == "soak" and not 0 < args.minutes <= 60 * 24 * 7:
        raise BenchError("--minutes must be more than 0 and at most a week")
    if not 0 <= args.warm_up <= 600:
        raise BenchError("--warm-up must be 0 to 600 seconds")
    if args.json is not None and not args.json.absolute().parent.is_dir():
        raise BenchError(f"--json: the folder {str(args.json.parent)!r} does not exist")
    if args.url is not None and (args.backend or args.model):
        raise BenchError("--backend and --model are for a server that is started here; leave out --url")


async def run(args: argparse.Namespace, subject: Subject) -> Report:
    if args.what == "latency":
        from benchmarks.latency import measure

        return await measure(subject, args.n, args.joins, args.warm_up)
    from benchmarks.soak import soak

    return await soak(subject, args.minutes, args.warm_up)


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in OTHERS:
        found = importlib.import_module(f"benchmarks.{words[0]}")
        return int(found.main(words[1:]))
    args = parser().parse_args(words)
    for name in QUIET:
        logging.getLogger(name).setLevel("ERROR")
    try:
        check(args)
        with subject_of(args) as subject:
            report = asyncio.run(run(args, subject))
        report.show(args.json)
    except (BenchError, ViewError) as error:
        print(f"psistream bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
