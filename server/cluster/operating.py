"""What `psistream cluster status`, `drain`, `take-back`, `scale` and `down` ask the directory and print."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from engine.errors import InvalidInput, Unavailable
from server.cluster.membership import Membership
from server.cluster.messages import (
    GATEWAY_FAULT,
    GATEWAY_MEND,
    DrainHost,
    LeaveHost,
    PlacementReport,
    Roster,
    ScaleWorkers,
    StopDirectory,
    TakeBackHost,
    Watch,
    WorkerEntry,
)
from server.worker.remote import WorkerAddress

ANSWER_S = 5.0
MAX_SHOWN = 32  # faults


async def ask(
    what: str,
    address: WorkerAddress,
    key: bytes,
    ca: Path | None,
    host: str = "",
    within_s: float = 0.0,
    *,
    leave: bool = False,
    workers: int = 0,
    keep_workers: bool = False,
) -> None:
    """`host` is for drain and take-back; a drain is waited for `within_s` seconds, and with `leave` the host
    is taken away afterwards. `workers` is for scale, `keep_workers` for down. Raises PsistreamError."""
    changed = asyncio.Event()
    async with Membership(address, key, ca, Watch, lambda roster: changed.set()) as directory:
        try:
            async with asyncio.timeout(ANSWER_S):
                await directory.joined()
        except TimeoutError:
            raise Unavailable(f"{directory.fault}; is `psistream cluster up` running there?") from None
        match what:
            case "status":
                print("\n".join(status(directory.roster)))
            case "drain":
                if leave:
                    _placement(directory.roster)
                await _drain(directory, changed, host, within_s)
                if leave:
                    directory.send(LeaveHost(host))
                    print(f"{host} is taken from Ray; if that fails, `psistream cluster status` says why")
            case "take-back":
                if host not in directory.roster.drained:
                    _workers(directory.roster, host)
                directory.send(TakeBackHost(host))
                await _until(directory, changed, lambda r: host not in r.drained)
                print(f"{host} accepts sessions again")
            case "scale":
                _placement(directory.roster)
                directory.send(ScaleWorkers(workers))
                await _until(directory, changed, lambda r: _placement(r).wanted == workers)
                print(f"wanted workers: {workers}; `psistream cluster status` shows how far it is")
            case "down":
                directory.send(StopDirectory(keep_workers))
                await directory.left()
                print("\n".join(_ended(directory.roster, keep_workers)))


def _ended(roster: Roster, keep_workers: bool) -> Iterator[str]:
    """What a directory that was ended has left."""
    if roster.placement is None or keep_workers:
        yield "the directory has ended; workers and gateways go on with what they know"
        return
    yield "the directory and the workers that it had placed have ended; gateways go on"
    for each in roster.placement.left:
        yield f"still there: {each}"


async def _drain(directory: Membership, changed: asyncio.Event, host: str, within_s: float) -> None:
    """Return once no worker on this host has a session. Raises PsistreamError."""
    _workers(directory.roster, host)
    directory.send(DrainHost(host))
    await _until(directory, changed, lambda r: host in r.drained)
    try:
        async with asyncio.timeout(within_s):
            await _until(directory, changed, lambda r: not _sessions(r, host), within_s=None)
    except TimeoutError:
        raise Unavailable(
            f"{host} still has {_sessions(directory.roster, host)} sessions: no other worker has capacity. "
            f"They move as soon as one has; `psistream cluster take-back {host}` ends the drain"
        ) from None
    print(f"{host} is drained")


async def _until(
    directory: Membership,
    changed: asyncio.Event,
    holds: Callable[[Roster], bool],
    within_s: float | None = ANSWER_S,
) -> None:
    """Wait for a roster of which this holds. Raises Unavailable."""
    try:
        async with asyncio.timeout(within_s):
            while not holds(directory.roster):
                changed.clear()
                await changed.wait()
    except TimeoutError:
        raise Unavailable(directory.fault or "the directory did not do it") from None


def _workers(roster: Roster, host: str) -> list[WorkerEntry]:
    """The workers of a host. Raises InvalidInput if it has none."""
    found = [worker for worker in roster.workers if worker.host == host]
    if not found:
        known = ", ".join(sorted({worker.host for worker in roster.workers})) or "no host has a worker now"
        raise InvalidInput(f"no worker is on a host named {host!r:.80}; the hosts: {known}", field="host")
    return found


def _placement(roster: Roster) -> PlacementReport:
    """Raises InvalidInput."""
    if roster.placement is None:
        raise InvalidInput(
            "this directory places no workers: `psistream cluster up` was started without --workers",
            field="workers",
        )
    return roster.placement


def _sessions(roster: Roster, host: str) -> int:
    return sum(worker.sessions for worker in roster.workers if worker.host == host)


def status(roster: Roster) -> Iterator[str]:
    """Two tables, of workers and of gateways, as lines."""
    rows = [["WORKER", "HOST", "STATE", "SESSIONS", "IN REAL TIME", "LOAD", "URL"]]
    for w in roster.workers:
        state = "silent" if not w.ready else "draining" if w.draining else "ready"
        real = ["", ""] if w.capacity is None else [str(w.capacity.sessions), f"{w.capacity.load:.0%}"]
        rows.append([w.name, w.host, state, str(w.sessions), *real, w.url])
    yield from _columns(rows)
    yield ""
    rows = [["GATEWAY", "STATE", "SESSIONS", "MAIN", "URL"]]
    for g in roster.gateways:
        main = "main" if g.name == roster.main else ""
        rows.append([g.name, "ready" if g.ready else "silent", str(g.sessions), main, g.url])
    yield from _columns(rows)
    for (worker, fault), gateways in _faults(roster).items():
        if worker.startswith(GATEWAY_FAULT):
            yield f"{', '.join(gateways)} cannot reach {worker}: {fault}; {GATEWAY_MEND}"
        else:
            yield f"{', '.join(gateways)} cannot use {worker}: {fault}"
    if empty := sorted({*roster.drained} - {w.host for w in roster.workers}):
        yield ""
        yield f"drained hosts without a worker: {', '.join(empty)}"
    if roster.placement is not None:
        yield ""
        yield from _placed(roster.placement)
    if not roster.settled:
        yield ""
        yield "the directory has just started; some may be missing"


def _faults(roster: Roster) -> dict[tuple[str, str], list[str]]:
    """Which gateways cannot use a worker, or reach another gateway or themselves, and why."""
    found: dict[tuple[str, str], list[str]] = {}
    for gateway in roster.gateways:
        for worker, fault in gateway.faults.items():
            found.setdefault((worker, fault), []).append(gateway.name)
    return dict(islice(sorted(found.items()), MAX_SHOWN))


def _placed(placement: PlacementReport) -> Iterator[str]:
    yield from _columns(
        [["PLACED", "HOST", "STATE"], *([w.name, w.host, w.stage] for w in placement.workers)]
    )
    running = sum(worker.stage == "running" for worker in placement.workers)
    yield f"{running} of {placement.wanted} wanted workers are running"
    yield from placement.notes


def _columns(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
