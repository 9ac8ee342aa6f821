"""`psistream bench gateways`: what gateways cost a worker: those that show a session without holding it, its
guests, and those that are only connected.

The gateways are connections of this process that count what they get; the worker is a process of its own. A
guest costs little beside the video itself, and on a busy machine that takes now more and now less time. So
the rows are measured in turn, several times, and compared by what a frame takes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from statistics import linear_regression, median
from typing import Any, NamedTuple

from benchmarks.arguments import counts
from benchmarks.chaos.processes import ServerProcess
from benchmarks.machine import cpu_seconds, description, resident_bytes
from benchmarks.network.ports import free_port
from benchmarks.report import BenchError, BenchReport
from benchmarks.server.subject import START_S
from engine.errors import InvalidInput
from engine.types import OpenSession, SessionClosed
from server.worker.base import Event
from server.worker.hosting.guests import MAX_GUESTS
from server.worker.messages.commands import SetViewers
from server.worker.messages.events import Packet
from server.worker.messages.holding import LeaveSession, WatchSession
from server.worker.remote import RemoteWorker, WorkerAddress

TRY_S = 0.2
SETTLE_S = 1.5
MOST = 256  # gateways of one worker
VIDEO = {"vp8": 1}


class CountingGateway:
    """A gateway without viewers of its own: it counts the packets that it gets."""

    def __init__(self, address: WorkerAddress) -> None:
        self.worker = RemoteWorker(address, b"", None, self._heard)
        self.packets = 0
        self.refused = ""

    def _heard(self, event: Event) -> None:
        if isinstance(event, Packet):
            self.packets += 1
        elif isinstance(event, SessionClosed):
            self.refused = f"session {event.session}: {event.message}"


class WorkerSample(NamedTuple):
    """Of some seconds: video frames, packets to all gateways and the worker's processor time, per second."""

    gateways: int
    frames: float
    packets: float
    used_ms: float

    @property
    def frame_ms(self) -> float:
        return self.used_ms / self.frames


def add_gateways(p: argparse.ArgumentParser) -> None:
    p.set_defaults(check=check_gateways, measure=measure_gateways)
    p.add_argument(
        "--guests",
        type=counts,
        default=(4, 8, 12),
        metavar="1,2,…",
        help="gateways that watch each session too (4,8,12)",
    )
    p.add_argument(
        "--idle",
        type=counts,
        default=(16, 64),
        metavar="1,2,…",
        help="gateways that are only connected (16,64)",
    )
    p.add_argument("--sessions", type=int, default=8, help="sessions that play (default: %(default)s)")
    p.add_argument("--seconds", type=float, default=5.0, help="for each row (default: %(default)g)")
    p.add_argument("--rounds", type=int, default=5, help="measurements of each row (default: %(default)s)")


def check_gateways(args: argparse.Namespace) -> None:
    """Raises InvalidInput."""
    if args.guests[-1] > MAX_GUESTS or args.idle[-1] > MOST - 1:
        raise InvalidInput(f"--guests may be {MAX_GUESTS}, --idle {MOST - 1} at most", field="guests")
    if not (1 <= args.sessions <= 64 and 0.5 <= args.seconds <= 3600 and 1 <= args.rounds <= 1000):
        raise InvalidInput(
            "--sessions must be 1 to 64, --seconds 0.5 to 3600, --rounds 1 to 1000", field="sessions"
        )


def measure_gateways(args: argparse.Namespace) -> BenchReport:
    """Raises BenchError."""
    settings = {"sessions": args.sessions, "rounds": args.rounds, "seconds": args.seconds, "backend": "fake"}
    report = BenchReport("gateways", description(), settings)
    asyncio.run(_measure(report, (0, *args.guests), (0, *args.idle), args.rounds, args.seconds))
    return report


async def _measure(
    report: BenchReport, guests: Sequence[int], idle: Sequence[int], rounds: int, seconds: float
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        names = [f"bench-{number}" for number in range(report.settings["sessions"])]
        pid, address = await stack.enter_async_context(_worker(len(names)))
        gates = Gateways(pid, address, names, seconds)
        stack.push_async_callback(gates.connect, 0)
        await gates.connect(1 + guests[-1])
        await gates.play()
        watched: dict[int, list[WorkerSample]] = {number: [] for number in guests}
        for _ in range(rounds):
            for number in guests:
                await gates.watch(number)
                watched[number].append(await gates.sample(number))
        await gates.stop()
        connected: dict[int, list[WorkerSample]] = {number: [] for number in idle}
        for _ in range(rounds):
            for number in idle:
                await gates.connect(1 + number)
                connected[number].append(await gates.sample(number))
        memory = round((resident_bytes(pid) or 0) / 2**20)
    if not all(sample.frames for samples in watched.values() for sample in samples):
        raise BenchError("the sessions showed nothing")
    report.tables = {
        "gateways that watch all sessions": [_row("guests", each) for each in watched.values()],
        "that are only connected": [_row("connected", each) for each in connected.values()],
    }
    slopes = [1000 * _slope(each, [s.frame_ms for s in each]) for each in zip(*watched.values(), strict=True)]
    report.singles["a guest, for each packet"] = round(median(slopes), 1), "µs"
    report.notes.append(f"of a guest in single rounds: {min(slopes):.0f} to {max(slopes):.0f} µs")
    slopes = [_slope(each, [s.used_ms for s in each]) for each in zip(*connected.values(), strict=True)]
    report.singles["a gateway that is only connected"] = round(median(slopes), 2), "ms/s"
    report.singles["the worker's memory at the end"] = memory, "MiB"


def _slope(samples: Sequence[WorkerSample], figures: Sequence[float]) -> float:
    """What each further gateway adds to a figure."""
    return linear_regression([sample.gateways for sample in samples], figures).slope


def _row(what: str, samples: Sequence[WorkerSample]) -> dict[str, Any]:
    """Medians of the rounds."""
    return {
        what: samples[0].gateways,
        "packets/s": round(median(sample.packets for sample in samples)),
        "worker, ms/s": round(median(sample.used_ms for sample in samples), 1),
        "per frame, ms": round(median(s.frame_ms for s in samples), 3) if samples[0].frames else None,
    }


class Gateways:
    """Gateways of the worker with this process id; the first one holds the sessions of these names. A sample
    takes `seconds`."""

    def __init__(self, pid: int, address: WorkerAddress, names: Sequence[str], seconds: float) -> None:
        self._pid, self._address, self._names, self._seconds = pid, address, names, seconds
        self._gates: list[CountingGateway] = []

    async def connect(self, number: int) -> None:
        """Let this number of gateways be connected."""
        while len(self._gates) > number:
            await self._gates.pop().worker.close()
        while len(self._gates) < number:
            gate = CountingGateway(self._address)
            await gate.worker.start()
            self._gates.append(gate)

    async def play(self) -> None:
        """Open the sessions, each with a viewer at the first gateway. Raises BenchError."""
        for name in self._names:
            self._gates[0].worker.send(OpenSession(name, "a red fox walks right through a forest", 1))
            self._gates[0].worker.send(SetViewers(name, VIDEO, count=1))
        await self._hear(self._gates[:1])

    async def stop(self) -> None:
        """They generate nothing any more, and nobody watches them."""
        await self.watch(0)
        for name in self._names:
            self._gates[0].worker.send(SetViewers(name, {}, throttled=True))

    async def watch(self, number: int) -> None:
        """Let this number of other gateways watch. Raises BenchError."""
        for position, gate in enumerate(self._gates[1:]):
            for name in self._names:
                gate.worker.send(WatchSession(name, VIDEO, 1) if position < number else LeaveSession(name))
        await self._hear(self._gates[1 : 1 + number])

    async def _hear(self, gates: Sequence[CountingGateway]) -> None:
        """Wait until each of them gets video. Raises BenchError."""
        before, until_s = [gate.packets for gate in gates], time.monotonic() + START_S
        while any(gate.packets == was for gate, was in zip(gates, before, strict=True)):
            self._check()
            if time.monotonic() > until_s:
                raise BenchError("the sessions showed nothing")
            await asyncio.sleep(TRY_S)

    def _check(self) -> None:
        if refused := next((gate.refused for gate in self._gates if gate.refused), ""):
            raise BenchError(f"the worker did not do it: {refused}")

    async def sample(self, number: int) -> WorkerSample:
        """Raises BenchError."""
        await asyncio.sleep(SETTLE_S)
        frames, packets, used_s = self._gates[0].packets, self._packets, self._used_s
        at_s = time.perf_counter()
        await asyncio.sleep(self._seconds)
        passed_s = time.perf_counter() - at_s
        self._check()
        counted = self._gates[0].packets - frames, self._packets - packets, self._used_s - used_s
        return WorkerSample(
            number, counted[0] / passed_s, counted[1] / passed_s, 1000 * counted[2] / passed_s
        )

    @property
    def _packets(self) -> int:
        return sum(gate.packets for gate in self._gates)

    @property
    def _used_s(self) -> float:
        return cpu_seconds(self._pid) or 0.0


@contextlib.asynccontextmanager
async def _worker(sessions: int) -> AsyncIterator[tuple[int, WorkerAddress]]:
    """A worker on the pretended device: its process, and where it listens. Raises BenchError."""
    port = free_port()
    options = ["--max-sessions", str(sessions), "--max-load", "1000", "--max-gateways", str(MOST)]
    process = ServerProcess(
        "the worker", ["worker", "--listen", f"127.0.0.1:{port}", "--backend", "fake", *options]
    )
    try:
        process.start()
        until_s = time.monotonic() + START_S
        while f"127.0.0.1:{port}" not in process.output:
            if not process.alive or time.monotonic() > until_s:
                raise process.failure()
            await asyncio.sleep(TRY_S)
        yield process.pid, WorkerAddress("127.0.0.1", port)
    finally:
        process.close()
