"""`psistream bench`: arguments → a benchmark, a table and a line of JSON."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.arguments import add_speed, check_combination, counts, milliseconds, seconds_of_a_segment
from benchmarks.chaos.bench import add_chaos
from benchmarks.fleet.bench import add_arguments, check_fleet, measure_fleet
from benchmarks.gateways.bench import add_gateways
from benchmarks.report import BenchError, BenchReport
from benchmarks.server.subject import Subject, own_server, running_server
from clients.errors import ClientError
from engine.backends.base import Backend
from engine.backends.registry import DEFAULT_BACKEND, load_backend
from engine.commandline.outputs import check_output
from engine.commandline.parser import Parser
from engine.commandline.runner import OK, run
from engine.commands.model_options import add_model
from engine.errors import InvalidInput

QUIET = ("aiortc", "aioice", "httpx")
ALONE = ("step", "load", "export", "fleet", "chaos", "gateways")  # need no server, or start more than one


def parser() -> argparse.ArgumentParser:
    p = Parser(
        prog="psistream bench",
        description="Measure a server (its own, or a running one) or the engine alone.",
    )
    what = p.add_subparsers(dest="what", required=True, metavar="WHAT")
    latency = what.add_parser("latency", help="prompt to photon, time to first frame, frame interval")
    latency.add_argument("--n", type=int, default=20, help="controls of each kind (default: %(default)s)")
    latency.add_argument(
        "--pretend",
        type=seconds_of_a_segment,
        metavar="S",
        help="no model: Helios' shape on the fake device, S seconds per segment; also soft changes",
    )
    latency.add_argument("--joins", type=int, default=8, help="timed joins (default: %(default)s)")
    soak = what.add_parser("soak", help="a long run: does anything grow, slow down or fail?")
    soak.add_argument("--minutes", type=float, default=10.0, help="duration (default: %(default)s)")
    soak.add_argument(
        "--segments", type=int, metavar="N", help="N segments of the engine alone, at full speed"
    )
    soak.add_argument(
        "--sessions", type=int, default=2, help="with --segments: long sessions (default: %(default)s)"
    )
    soak.add_argument("--plot", type=Path, metavar="FILE", help="curves as a PNG (needs matplotlib)")
    failover = what.add_parser("failover", help="how long the picture stalls when a worker is killed")
    failover.add_argument("--n", type=int, default=5, help="kills (default: %(default)s)")
    failover.add_argument("--spare", choices=("on", "off"), default="on", help="a warm spare (%(default)s)")
    failover.add_argument("--workers", type=int, default=1, help="workers of the server (%(default)s)")
    hostile = what.add_parser("hostile", help="how hostile clients affect a viewer")
    hostile.add_argument("--seconds", type=float, default=15.0, help="for each attacker (%(default)s)")
    hostile.add_argument(
        "--attacker-cores",
        default="",
        metavar="1,2,…",
        help="confine attackers to these (default: all, but only idle time)",
    )
    hostile.add_argument("--only", action="append", default=[], metavar="NAME", help="this attacker alone")
    for each in (failover, hostile):
        each.set_defaults(url=None, warm_up=2.0)
    for each in (latency, soak):
        each.add_argument("--warm-up", type=float, default=2.0, metavar="S", help="seconds not measured (2)")
        each.add_argument("--url", help="a running server (default: start one and stop it afterwards)")
        each.add_argument("--session", help="with --url: the session (default: a new one)")
        each.add_argument("--token", help="with --url: the session's token")
    step = what.add_parser(
        "step", help="each function of the model, alone and in batches; a snapshot, a fork"
    )
    step.add_argument("--batches", type=counts, default=(1, 2, 4, 8), metavar="1,2,…", help="rows (1,2,4,8)")
    step.add_argument(
        "--random",
        nargs="?",
        const="full",
        choices=("full", "tiny", "fake"),
        help="with --model helios: random weights; tiny and fake test the benchmark on any machine",
    )
    add_speed(step)
    step.add_argument("--height", type=int, default=384, help="with --random (default: %(default)s)")
    step.add_argument("--width", type=int, default=640, help="with --random (default: %(default)s)")
    step.add_argument("--n", type=int, default=20, help="calls of each (default: %(default)s)")
    load = what.add_parser("load", help="how many sessions play in real time, with and without batching")
    sessions = (1, 2, 4, 8, 16, 32, 64)
    load.add_argument("--sessions", type=counts, default=sessions, metavar="1,2,…", help="counts to try")
    load.add_argument("--seconds", type=float, default=20.0, help="for each count (default: %(default)s)")
    load.add_argument("--max-batch", type=int, default=8, metavar="N", help="rows of a batch (%(default)s)")
    fleet = what.add_parser("fleet", help="a large fleet, simulated: placement, failover, snapshots")
    add_arguments(fleet, load)
    chaos = what.add_parser("chaos", help="sessions that are steered, while workers and gateways fail")
    add_chaos(chaos)
    gateways = what.add_parser("gateways", help="what the gateways of a cluster cost a worker")
    add_gateways(gateways)
    for each in (load, fleet):
        each.add_argument(
            "--pretend",
            type=milliseconds,
            metavar="CALL,ROW",
            help="simulate a device: milliseconds per call of denoise, decode and memorize, and per row",
        )
    for each in (latency, soak, step, load, failover, hostile, chaos):
        add_model(each)
        each.set_defaults(backend=None)  # so that --url can tell whether one was named
    export = what.add_parser(
        "export", help="the denoiser in ONNX Runtime, OpenVINO and PyTorch (needs the export extra)"
    )
    export.add_argument("--model", type=Path, metavar="DIR", help="an exported folder (default: built in)")
    export.add_argument("--threads", type=int, default=2, help="(default: %(default)s)")
    export.add_argument("--rounds", type=int, default=20, help="calls of each (default: %(default)s)")
    export.add_argument("--batch", type=int, nargs="+", default=[1, 4], help="batch sizes (default: 1 4)")
    export.add_argument("--compiled", action="store_true", help="also torch.compile: minutes, needs C++")
    for each in (latency, soak, step, load, failover, hostile, export, fleet, chaos, gateways):
        each.add_argument("--json", type=Path, metavar="FILE", help="also write the figures into this file")
    return p


def check(args: argparse.Namespace) -> None:
    """Raises InvalidInput, before anything is started."""
    what = args.what
    if what == "export" and (args.rounds < 1 or args.threads < 1 or min(args.batch) < 1):
        raise InvalidInput("--rounds, --threads and --batch must be at least 1", field="rounds")
    if what == "latency" and (args.n < 1 or args.joins < 1):
        raise InvalidInput("--n and --joins must be at least 1", field="n")
    if what in ("step", "failover") and args.n < 1:
        raise InvalidInput("--n must be at least 1", field="n")
    if what == "step" and args.random is not None and str(args.model) != "helios":
        raise InvalidInput("--random needs --model helios", field="random")
    check_combination(args)
    if what == "load" and not (0.5 <= args.seconds <= 3600 and args.max_batch >= 1):
        raise InvalidInput("--seconds must be 0.5 to 3600, --max-batch at least 1", field="seconds")
    if what == "hostile":
        from benchmarks.server.attackers import ATTACKS

        if not 1 <= args.seconds <= 3600:
            raise InvalidInput("--seconds must be 1 to 3600", field="seconds")
        known_cores = {str(core) for core in os.sched_getaffinity(0)}
        if args.attacker_cores and not set(args.attacker_cores.split(",")) <= known_cores:
            raise InvalidInput(
                f"--attacker-cores must be of {','.join(sorted(known_cores))}, not {args.attacker_cores:.40}",
                field="attacker_cores",
            )
        unknown = [name for name in args.only if name not in ATTACKS]
        if unknown:
            known = ", ".join(ATTACKS)
            raise InvalidInput(f"--only: no attacker {unknown[0]!r}; known are {known}", field="only")
    if what == "soak":
        if not 0 < args.minutes <= 60 * 24 * 7:
            raise InvalidInput("--minutes must be more than 0 and at most a week", field="minutes")
        if (args.segments is not None and args.segments < 100) or args.sessions < 1:
            raise InvalidInput("--segments must be at least 100, --sessions at least 1", field="segments")
    check_fleet(args)
    if "check" in args:
        args.check(args)
    for name in ("json", "plot"):
        check_output(getattr(args, name, None), f"--{name}")
    if what in ALONE:
        return
    if not 0 <= args.warm_up <= 600:
        raise InvalidInput("--warm-up must be 0 to 600 seconds", field="warm_up")


@contextlib.contextmanager
def pretending_server(segment_s: float) -> Iterator[Subject]:
    from benchmarks.server.pretend import pretended

    with (
        pretended(segment_s) as folder,
        own_server(["--backend", "fake", "--model", str(folder), "--max-load", "4"]) as subject,
    ):
        yield subject


def subject_of(args: argparse.Namespace) -> contextlib.AbstractContextManager[Subject]:
    """The server to measure. Raises BenchError or ViewError when entered."""
    if args.url is not None:
        return running_server(args.url, args.session, args.token)
    if args.what == "latency" and args.pretend is not None:
        return pretending_server(args.pretend)
    options = ["--backend", args.backend or DEFAULT_BACKEND]
    options += ["--model", args.model] if args.model else []
    options += ["--weights", str(args.weights)] if args.weights else []
    if args.what == "failover":
        options += ["--workers", str(args.workers)]
        options += ["--spare", args.spare] if args.workers == 1 else ["--max-load", "4"]  # room for all
    if args.what == "hostile":
        options += ["--max-load", "4", "--mqtt", "embedded:0"]  # two sessions, on any device
    return own_server(options)


def measure_alone(args: argparse.Namespace) -> BenchReport:
    """Benchmarks without a server, or with servers of their own. Raises BenchError, PsistreamError."""
    if "measure" in args:
        return args.measure(args)  # type: ignore[no-any-return]
    if args.what == "fleet" or (args.what == "load" and args.workers is not None):
        return measure_fleet(args)
    if args.what == "export":
        # by name: only this benchmark needs torch and onnx
        module = importlib.import_module("benchmarks.model.export")
        report: BenchReport = module.measure(args.model, args.threads, args.rounds, args.batch, args.compiled)
        return report
    if args.what == "step" and args.random is not None:
        module = importlib.import_module("benchmarks.model.helios")  # by name: it needs torch
        found: BenchReport = module.measure(
            args.random,
            height=args.height,
            width=args.width,
            batches=args.batches,
            n=args.n,
            speed=module.Speed(args.attention, args.linears, args.how),
        )
        return found
    with contextlib.closing(
        load_backend(args.backend or DEFAULT_BACKEND, args.model, args.weights)
    ) as backend:
        if args.what == "step":
            from benchmarks.engine.moments import measure as measure_moments
            from benchmarks.engine.step import measure as measure_steps

            report = measure_steps(backend, args.batches, args.n)
            measure_moments(backend, args.n, report)
            return report
        if args.what == "load":
            from benchmarks.engine.load import measure as measure_load

            return measure_load(_pretended(args, backend), args.sessions, args.max_batch, args.seconds)
        from benchmarks.engine.endurance import endure

        report, samples = endure(backend, args.segments, args.sessions)
        if args.plot is not None:
            from benchmarks.plot import curves

            curves(args.plot, samples.at, samples.series(), "segments")
        return report


def _pretended(args: argparse.Namespace, backend: Backend) -> Backend:
    if args.pretend is None:
        return backend
    from benchmarks.engine.blank import batching_device

    return batching_device(backend.spec, *args.pretend)


async def measure_served(args: argparse.Namespace, subject: Subject) -> BenchReport:
    if args.what == "latency":
        from benchmarks.server.latency import measure

        soft = args.pretend is not None
        return await measure(subject, args.n, args.joins, args.warm_up, soft=soft)
    if args.what == "failover":
        from benchmarks.server.failover import measure as measure_failover

        return await measure_failover(subject, args.n, args.workers)
    if args.what == "hostile":
        from benchmarks.server.hostile import measure as measure_hostile

        return await measure_hostile(subject, args.seconds, args.only, args.attacker_cores)
    from benchmarks.server.soak import soak

    return await soak(subject, args.minutes, args.warm_up, args.plot)


def main(argv: Sequence[str] | None = None) -> int:
    return run("psistream bench", lambda: _main(parser().parse_args(argv)))


def _main(args: argparse.Namespace) -> int:
    for name in QUIET:
        logging.getLogger(name).setLevel("ERROR")
    check(args)
    try:
        if args.what in ALONE or (args.what == "soak" and args.segments is not None):
            report = measure_alone(args)
        else:
            with subject_of(args) as subject:
                report = asyncio.run(measure_served(args, subject))
    except ClientError as error:
        raise BenchError(str(error)) from None
    report.show(args.json)
    return OK
