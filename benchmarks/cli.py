"""`psistream bench`: arguments → a benchmark, a table and a line of JSON."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.report import BenchError, Report
from benchmarks.server import Subject, own_server, running_server
from clients.whep import ViewError
from engine.backends.base import Backend
from engine.backends.registry import load_backend
from engine.errors import PsistreamError

QUIET = ("aiortc", "aioice", "httpx")
OTHERS = {
    "export": "the denoiser in ONNX Runtime, OpenVINO and PyTorch (needs the export extra)",
}
ALONE = ("step", "load")  # need no server


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        "psistream bench", description="Measure a server, its own or a running one, or the engine alone."
    )
    what = p.add_subparsers(dest="what", required=True, metavar="WHAT")
    for name, about in OTHERS.items():
        what.add_parser(name, help=about, add_help=False)
    latency = what.add_parser("latency", help="prompt to photon, time to first frame, frame interval")
    latency.add_argument("--n", type=int, default=20, help="of each kind (default: %(default)s)")
    latency.add_argument("--joins", type=int, default=8, help="joins timed (default: %(default)s)")
    soak = what.add_parser("soak", help="does anything grow, or slow down, or fail in a long run?")
    soak.add_argument("--minutes", type=float, default=10.0, help="how long (default: %(default)s)")
    soak.add_argument(
        "--segments", type=int, metavar="N", help="the engine alone: so many, as fast as it goes"
    )
    soak.add_argument(
        "--sessions", type=int, default=2, help="with --segments: long ones (default: %(default)s)"
    )
    soak.add_argument("--plot", type=Path, metavar="FILE", help="curves as a PNG (needs matplotlib)")
    failover = what.add_parser("failover", help="how long the picture stalls when a worker is killed")
    failover.add_argument("--n", type=int, default=5, help="kills (default: %(default)s)")
    failover.add_argument("--spare", choices=("on", "off"), default="on", help="a warm spare (%(default)s)")
    hostile = what.add_parser("hostile", help="what a viewer notices while other clients do their worst")
    hostile.add_argument("--seconds", type=float, default=15.0, help="for each attacker (%(default)s)")
    hostile.add_argument("--only", action="append", default=[], metavar="NAME", help="this attacker alone")
    for each in (failover, hostile):
        each.set_defaults(url=None, warm_up=2.0)
    for each in (latency, soak):
        each.add_argument(
            "--warm-up", type=float, default=2.0, metavar="S", help="seconds that don't count (2)"
        )
        each.add_argument("--url", help="a server that runs (default: start one, stop it afterwards)")
        each.add_argument("--session", help="with --url: which session (default: a new one)")
        each.add_argument("--token", help="with --url: its token")
    step = what.add_parser(
        "step", help="each of the model's functions, alone and in batches; a snapshot, a fork"
    )
    step.add_argument("--batches", type=_counts, default=(1, 2, 4, 8), metavar="1,2,…", help="rows (1,2,4,8)")
    step.add_argument(
        "--random",
        nargs="?",
        const="full",
        choices=("full", "tiny", "fake"),
        help="with --model helios: random weights; tiny and fake rehearse it on any machine",
    )
    step.add_argument("--height", type=int, default=384, help="with --random (default: %(default)s)")
    step.add_argument("--width", type=int, default=640, help="with --random (default: %(default)s)")
    step.add_argument("--n", type=int, default=20, help="calls of each (default: %(default)s)")
    load = what.add_parser("load", help="sessions in real time, with and without batching")
    counts = (1, 2, 4, 8, 16, 32, 64)
    load.add_argument("--sessions", type=_counts, default=counts, metavar="1,2,…", help="until it breaks")
    load.add_argument("--seconds", type=float, default=20.0, help="for each count (default: %(default)s)")
    load.add_argument("--max-batch", type=int, default=8, metavar="N", help="rows of a batch (%(default)s)")
    load.add_argument(
        "--pretend",
        type=_milliseconds,
        metavar="CALL,ROW",
        help="no model: milliseconds of each denoise, decode and memorize, and of each row",
    )
    for each in (latency, soak, step, load, failover, hostile):
        each.add_argument("--backend", help="what runs the model (default: the server's)")
        each.add_argument("--model", type=Path, metavar="DIR", help="the model to load")
        each.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    return p


def _counts(text: str) -> tuple[int, ...]:
    counts = tuple(int(part) for part in text.split(","))
    if not counts or list(counts) != sorted(set(counts)) or counts[0] < 1:
        raise ValueError
    return counts


def _milliseconds(text: str) -> tuple[float, float]:
    call_ms, row_ms = (float(part) for part in text.split(","))
    if not (0 <= call_ms <= 1e5 and 0 <= row_ms <= 1e5):
        raise ValueError
    return call_ms, row_ms


def subject_of(args: argparse.Namespace) -> contextlib.AbstractContextManager[Subject]:
    """Raises BenchError, ViewError when entered."""
    if args.url is not None:
        return running_server(args.url, args.session, args.token)
    extra = ["--backend", args.backend] if args.backend else []
    if args.what == "failover":
        extra += ["--spare", args.spare]
    if args.what == "hostile":
        extra += ["--max-load", "4"]  # two sessions, on whatever device
    return own_server(extra + (["--model", str(args.model)] if args.model else []))


def check(args: argparse.Namespace) -> None:
    """Raises BenchError: before anything is started."""
    if args.what == "latency" and (args.n < 1 or args.joins < 1):
        raise BenchError("--n and --joins must be at least 1")
    if args.what == "step" and args.n < 1:
        raise BenchError("--n must be at least 1")
    if args.what == "step" and (args.random is not None) != (str(args.model) == "helios"):
        raise BenchError(
            "--random goes with --model helios, and that with --random: its weights are not here"
        )
    if args.what == "load" and not (0.5 <= args.seconds <= 3600 and args.max_batch >= 1):
        raise BenchError("--seconds must be 0.5 to 3600, --max-batch at least 1")
    if args.what == "failover" and args.n < 1:
        raise BenchError("--n must be at least 1")
    if args.what == "hostile":
        from benchmarks.attackers import ATTACKS

        if not 1 <= args.seconds <= 3600:
            raise BenchError("--seconds must be 1 to 3600")
        unknown = [name for name in args.only if name not in ATTACKS]
        if unknown:
            raise BenchError(f"--only: there is no attacker {unknown[0]!r}; known are {', '.join(ATTACKS)}")
    if args.what == "soak":
        if not 0 < args.minutes <= 60 * 24 * 7:
            raise BenchError("--minutes must be more than 0 and at most a week")
        if (args.segments is not None and args.segments < 100) or args.sessions < 1:
            raise BenchError("--segments must be at least 100, --sessions at least 1")
    for name in ("json", "plot"):
        path = getattr(args, name, None)
        if path is not None and not path.absolute().parent.is_dir():
            raise BenchError(f"--{name}: the folder {str(path.parent)!r} does not exist")
    if args.what in ALONE:
        return
    if not 0 <= args.warm_up <= 600:
        raise BenchError("--warm-up must be 0 to 600 seconds")
    if args.url is not None and (args.backend or args.model or getattr(args, "segments", None)):
        raise BenchError("--backend, --model and --segments are not for a server that runs; leave out --url")


@contextlib.contextmanager
def backend_of(args: argparse.Namespace) -> Iterator[Backend]:
    """Raises PsistreamError."""
    backend = load_backend(args.backend or "onnxruntime", args.model)
    try:
        if getattr(args, "pretend", None) is not None:
            from benchmarks.blank import batch_lover

            yield batch_lover(backend.spec, *args.pretend)
        else:
            yield backend
    finally:
        backend.close()


def run_alone(args: argparse.Namespace) -> Report:
    """Without a server. Raises BenchError, PsistreamError."""
    if args.what == "step" and args.random is not None:
        module = importlib.import_module("benchmarks.helios")  # by name: it needs torch
        found: Report = module.measure(
            args.random, height=args.height, width=args.width, batches=args.batches, n=args.n
        )
        return found
    with backend_of(args) as backend:
        if args.what == "step":
            from benchmarks.moments import measure as measure_moments
            from benchmarks.step import measure as measure_steps

            report = measure_steps(backend, args.batches, args.n)
            measure_moments(backend, args.n, report)
            return report
        if args.what == "load":
            from benchmarks.load import measure as measure_load

            return measure_load(backend, args.sessions, args.max_batch, args.seconds)
        from benchmarks.endurance import endure

        report, samples = endure(backend, args.segments, args.sessions)
        if args.plot is not None:
            from benchmarks.plot import curves

            curves(args.plot, samples.at, samples.series(), "segments")
        return report


async def run(args: argparse.Namespace, subject: Subject) -> Report:
    if args.what == "latency":
        from benchmarks.latency import measure

        return await measure(subject, args.n, args.joins, args.warm_up)
    if args.what == "failover":
        from benchmarks.failover import measure as measure_failover

        return await measure_failover(subject, args.n)
    if args.what == "hostile":
        from benchmarks.hostile import measure as measure_hostile

        return await measure_hostile(subject, args.seconds, args.only)
    from benchmarks.soak import soak

    return await soak(subject, args.minutes, args.warm_up, args.plot)


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
        if args.what in ALONE or (args.what == "soak" and args.segments is not None):
            report = run_alone(args)
        else:
            with subject_of(args) as subject:
                report = asyncio.run(run(args, subject))
        report.show(args.json)
    except (BenchError, ViewError, PsistreamError) as error:
        print(f"psistream bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
