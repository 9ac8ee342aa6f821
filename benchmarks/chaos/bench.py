"""`psistream bench chaos`: a small cluster of real processes, sessions with readers that are steered all
along, and a fault every few seconds."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.arguments import milliseconds
from benchmarks.chaos.audience import Audience
from benchmarks.chaos.faults import KINDS, FaultHands, FaultKind, sequence, victim
from benchmarks.chaos.figures import FaultRecord, add, prompt_figures, rows
from benchmarks.chaos.processes import SmallCluster, small_cluster
from benchmarks.machine import description
from benchmarks.network.hosts import host_network
from benchmarks.report import BenchReport, progress
from engine.commandline.parser import check_belongs, check_unused
from engine.errors import InvalidInput
from engine.model.signature import ModelSpec

BACK_S = 60.0  # a session that shows nothing for so long is not back
PROMPT_EVERY_S = 2.0
PRETENDED = (5.0, 1.0)  # milliseconds per call and per row


def add_chaos(chaos: argparse.ArgumentParser) -> None:
    chaos.set_defaults(check=check_chaos, measure=measure_chaos)
    chaos.add_argument("--minutes", type=float, default=10.0, help="duration (default: %(default)g)")
    chaos.add_argument("--sessions", type=int, default=4, help="each with a reader (default: %(default)s)")
    chaos.add_argument("--workers", type=int, default=2, help="each on a host (default: %(default)s)")
    needs = {kind.name: " (root)" if kind.needs_root else "" for kind in KINDS.values()}
    known = ", ".join(f"{name}{need}" for name, need in needs.items())
    chaos.add_argument(
        "--faults", default="", metavar="NAME,…", help=f"some of {known} (default: all that this user can do)"
    )
    chaos.add_argument(
        "--directory",
        action="store_true",
        help="the gateway finds workers through a directory, which may fail",
    )
    chaos.add_argument(
        "--every", type=float, default=5.0, metavar="S", help="calm seconds before each fault (%(default)g)"
    )
    chaos.add_argument("--seed", type=int, default=0, help="of the order of faults and their victims")
    chaos.add_argument(
        "--pretend",
        type=milliseconds,
        metavar="CALL,ROW",
        help="simulate a device: milliseconds per call and per row (default without --model: 5,1)",
    )


def check_chaos(args: argparse.Namespace) -> None:
    """Raises InvalidInput."""
    if not 0.05 <= args.minutes <= 60 * 24:
        raise InvalidInput("--minutes must be 0.05 to 1440", field="minutes")
    if not (1 <= args.sessions <= 64 and 1 <= args.workers <= 16):
        raise InvalidInput("--sessions must be 1 to 64, --workers 1 to 16", field="sessions")
    if not 0 <= args.every <= 3600:
        raise InvalidInput("--every must be 0 to 3600 seconds", field="every")
    for name in faults_of(args):
        if name not in KINDS:
            known = ", ".join(KINDS)
            raise InvalidInput(f"--faults: no fault {name!r:.40}; known are {known}", field="faults")
        if KINDS[name].needs_root and os.geteuid() != 0:
            raise InvalidInput(f"--faults: {name} needs root, for hosts of their own", field="faults")
        if KINDS[name].needs_directory and not args.directory:
            raise InvalidInput(f"--faults: {name} needs --directory", field="faults")
    if args.pretend is not None:
        check_unused(args, "--pretend", "backend", "model", "weights")
    elif not args.model:
        check_belongs(args, "--model", "weights")
    if args.workers == 1 and "drain" in faults_of(args):
        raise InvalidInput("--faults: a drain needs another worker: --workers 2", field="faults")


def faults_of(args: argparse.Namespace) -> list[str]:
    if args.faults:
        return list(dict.fromkeys(args.faults.split(",")))
    able = [kind.name for kind in KINDS.values() if _can(kind, args)]
    return [name for name in able if name != "drain" or args.workers > 1]


def _can(kind: FaultKind, args: argparse.Namespace) -> bool:
    return (os.geteuid() == 0 or not kind.needs_root) and (args.directory or not kind.needs_directory)


@contextlib.contextmanager
def prepared(args: argparse.Namespace) -> Iterator[SmallCluster]:
    """The cluster to measure; on hosts of its own if this user can have them. Raises BenchError."""
    with contextlib.ExitStack() as stack:
        options = ["--max-load", "4", "--max-sessions", "64"]
        if args.backend or args.model:
            options += ["--backend", args.backend] if args.backend else []
            options += ["--model", str(args.model)] if args.model else []
            options += ["--weights", str(args.weights)] if args.weights else []
        else:
            folder = stack.enter_context(_pretended(args.pretend or PRETENDED))
            options += ["--backend", "fake", "--model", folder]
        root = os.geteuid() == 0
        network = stack.enter_context(host_network(args.workers)) if root else None
        yield stack.enter_context(small_cluster(args.workers, options, network, directory=args.directory))


@contextlib.contextmanager
def _pretended(cost_ms: tuple[float, float]) -> Iterator[str]:
    from engine.backends.fake import FAKE_SPEC

    spec: ModelSpec = FAKE_SPEC
    with tempfile.TemporaryDirectory(prefix="psistream-") as folder:
        roles = (*spec.denoise_roles, "decode", "memorize")
        costs = dict.fromkeys(roles, (cost_ms[0] / 1000, cost_ms[1] / 1000))
        Path(folder, "fake.json").write_text(json.dumps({"costs": costs}), encoding="utf-8")
        yield folder


def measure_chaos(args: argparse.Namespace) -> BenchReport:
    """Raises BenchError, ClientError."""
    machine = description()
    with prepared(args) as cluster:
        return asyncio.run(Chaos(args, cluster).run(machine))


def _without_sctp(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """aiortc sends on connections that have just been closed, and says so at length."""
    if "RTCSctpTransport" not in str(context.get("future")):
        loop.default_exception_handler(context)


class Chaos:
    def __init__(self, args: argparse.Namespace, cluster: SmallCluster) -> None:
        self._args, self._cluster = args, cluster
        self._stop = asyncio.Event()
        self._records: list[FaultRecord] = []

    async def run(self, machine: dict[str, object]) -> BenchReport:
        """Until the time is over, all sessions are lost or somebody presses Ctrl-C."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._stop.set)
        loop.set_exception_handler(_without_sctp)
        async with Audience(self._cluster.base, self._args.sessions, PROMPT_EVERY_S) as audience:
            began_s = time.perf_counter()
            await self._strike_all(audience, began_s + 60 * self._args.minutes)
            await audience.settle()
            return self._report(machine, time.perf_counter() - began_s, audience)

    async def _strike_all(self, audience: Audience, until_s: float) -> None:
        hands, dice = FaultHands(self._cluster), random.Random(self._args.seed)
        for name in sequence(faults_of(self._args), self._args.seed):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), max(self._args.every, 0.001))
            if self._stop.is_set() or time.perf_counter() > until_s:
                return
            if len(audience.lost) == self._args.sessions:
                return
            kind, chosen = KINDS[name], await victim(self._cluster, dice)
            await kind.done(hands, chosen)
            since_s = time.perf_counter() if kind.everybody else hands.struck_s
            await audience.back(since_s, BACK_S)
            record = FaultRecord(name, chosen.name, hands.struck_s, time.perf_counter(), hands.noticed_s)
            for reader in audience.readers:
                add(record, reader.seen, audience.fps, everybody=kind.everybody)
            record.without = len(audience.without_picture())
            self._records.append(record)
            self._tell(record, until_s)
            await asyncio.to_thread(self._cluster.wait_ready)

    def _tell(self, record: FaultRecord, until_s: float) -> None:
        gaps = ", ".join(f"{gap:.2f}" for gap in sorted(record.gaps_s)) or "none"
        left = max(0.0, until_s - record.over_s) / 60
        progress(f"{record.kind} {record.victim}: gaps {gaps} s; {left:.1f} min left")

    def _report(self, machine: dict[str, object], took_s: float, audience: Audience) -> BenchReport:
        args, lost = self._args, audience.lost
        settings = {
            "minutes": round(took_s / 60, 1),
            "sessions": args.sessions,
            "workers": args.workers,
            "hosts": "namespaces" if self._cluster.network else "loopback",
            "directory": "yes" if args.directory else "no",
            "every": args.every,
            "seed": args.seed,
            "model": str(
                args.model or args.backend or "pretended {:g},{:g} ms".format(*(args.pretend or PRETENDED))
            ),
        }
        report = BenchReport("chaos", machine, settings)
        report.tables["faults"] = rows(self._records)
        report.singles["sessions lost"] = (len(lost), f"of {args.sessions}")
        report.singles |= prompt_figures(audience.prompts, [reader.seen for reader in audience.readers])
        report.notes += [f"lost: {why}" for why in lost]
        report.notes.append(
            "A gap is the longest time without a frame of a session that the fault concerned. Missed frames "
            "were due meanwhile. Readers decode nothing."
        )
        return report
