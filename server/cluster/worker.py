"""`psistream worker`: a worker that listens on a port, for gateways on this or other machines.

It outlives them: sessions continue for a while, until a gateway claims them (see leases). With --join it
tells a directory where it is, so that gateways find it.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine.commandline.outputs import tell
from engine.commandline.parser import Parser, check_belongs
from engine.commandline.runner import FAILED, OK, run
from engine.errors import InvalidInput, PsistreamError
from server.cluster.checks import HOST_CHARS, check_worker_name
from server.cluster.membership import Membership, new_instance
from server.cluster.messages import JoinWorker, WorkerReport
from server.cluster.tables import MAX_GATEWAYS as CLUSTER_GATEWAYS
from server.config import WorkerConfig
from server.keys import checked_authorities
from server.log_format import set_up
from server.tasks import Tasks
from server.worker.core import Emit, WorkerCore
from server.worker.hosting.files import check_files
from server.worker.hosting.host import MAX_GATEWAYS, Host, leave
from server.worker.hosting.listen import (
    Listen,
    add_listen,
    cannot_listen,
    host_and_port,
    is_private,
    listen_of,
)
from server.worker.hosting.options import add_worker_options, worker_config
from server.worker.remote import WorkerAddress


@dataclass(frozen=True)
class WorkerJoin:
    """How a worker joins a directory, which has the same key. `host` is the machine that a drain names,
    `advertise` where gateways reach the worker (HOST:PORT); empty: where it listens."""

    directory: WorkerAddress
    name: str
    host: str
    advertise: str = ""
    ca: Path | None = None
    labels: dict[str, str] = field(default_factory=dict)


def parser() -> argparse.ArgumentParser:
    p = Parser(
        prog="psistream worker",
        description="Run a model for gateways that connect to it: psistream serve --worker tcp://HOST:PORT, "
        "or find it through a directory (--join). Without TLS use it in a network of your own only.",
    )
    add = p.add_argument
    add_listen(add, None, "gateways")
    add_worker_options(p)
    add(
        "--max-gateways",
        type=int,
        default=MAX_GATEWAYS,
        metavar="N",
        help="how many gateways may be connected (default: %(default)s)",
    )
    add("--join", metavar="URL", help="tcp://HOST:PORT of the directory (psistream cluster up), same key")
    add("--join-ca", type=Path, metavar="FILE", help="who signed its certificate (default: the system's)")
    add("--name", help="this worker's name in the directory (default: of the host and port)")
    add(
        "--advertise",
        metavar="HOST:PORT",
        help="where gateways reach this worker (default: where it listens)",
    )
    add(
        "--on-host",
        metavar="NAME",
        help=f"this machine's name for `psistream cluster drain` (default: {socket.gethostname()})",
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    return run("psistream worker", lambda: _main(parser().parse_args(argv)))


def _main(args: argparse.Namespace) -> int:
    set_up(args.log_format, args.log_level.upper())
    config = checked_config(args)
    where = listen_of(args)
    join = join_of(args, where)
    cores: list[WorkerCore] = []
    broken: str | None = "it was stopped"
    try:
        broken = asyncio.run(serve(config, where, cores, join, args.max_gateways))
    except PsistreamError as error:
        if not cores:
            raise
        print(f"psistream worker: {error.message}", file=sys.stderr, flush=True)
    finally:
        if cores:
            leave(cores[0], OK if broken is None else FAILED)
    return OK


def checked_config(args: argparse.Namespace) -> WorkerConfig:
    """Raises InvalidInput."""
    if not 1 <= args.max_gateways <= CLUSTER_GATEWAYS:
        raise InvalidInput(f"--max-gateways must be 1 to {CLUSTER_GATEWAYS}", field="max_gateways")
    return worker_config(args)


def check_before_start(args: argparse.Namespace) -> None:
    """Check all that a worker with these arguments reads, in another process on the same machine. Raises
    InvalidInput, ModelFilesError."""
    config = checked_config(args)
    join_of(args, listen_of(args))
    check_files(config)


def join_of(args: argparse.Namespace, where: Listen) -> WorkerJoin | None:
    """Raises InvalidInput."""
    if args.join is None:
        check_belongs(args, "--join", "join_ca", "name", "advertise", "on_host")
        return None
    name = default_name(where.port) if args.name is None else args.name
    check_worker_name(name)
    host = socket.gethostname() if args.on_host is None else args.on_host
    if not (0 < len(host) <= HOST_CHARS and host.isprintable()):
        raise InvalidInput(
            f"--on-host must have 1 to {HOST_CHARS} characters, without line breaks", field="on_host"
        )
    directory = WorkerAddress.parse(args.join, "--join")
    if not directory.tls:
        check_belongs(args, "--join tls://HOST:PORT", "join_ca")
    if args.advertise is not None:
        host_and_port(args.advertise, "--advertise")
    elif is_private(where.host, directory):
        raise InvalidInput(
            f"--listen {where.host} does not say where gateways reach this worker: give --advertise, such as "
            "10.0.0.7:7070",
            field="advertise",
        )
    ca = checked_authorities(args.join_ca, "--join-ca")
    return WorkerJoin(directory, name, host, args.advertise or "", ca)


def default_name(port: int) -> str:
    host = re.sub("[^a-z0-9.-]+", "-", socket.gethostname().lower()).strip("-.") or "worker"
    return f"{host[:50].strip('-.')}-{port}" if port else f"{host[:50].strip('-.')}-{new_instance()[:6]}"


async def serve(
    config: WorkerConfig,
    where: Listen,
    cores: list[WorkerCore],
    join: WorkerJoin | None = None,
    max_gateways: int = MAX_GATEWAYS,
) -> str | None:
    """Run until SIGINT or SIGTERM, or until the device has failed, which is then returned. `cores` gets the
    core that is loaded. Raises PsistreamError."""
    loop = asyncio.get_running_loop()
    host = Host(where.key, private=False, most=max_gateways)
    try:
        server = await loop.create_server(host.entrance.door(where.tls), where.host, where.port)
    except OSError as error:
        raise cannot_listen(error, where) from None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, host.end)
    port, loaded = server.sockets[0].getsockname()[1], asyncio.Event()

    def load(emit: Emit) -> WorkerCore:
        cores.append(WorkerCore(config, emit))
        about = f"{cores[0].ready.model} on {cores[0].ready.backend}, at {where.url(port)}"
        tell(f"psistream worker: {about}")
        loop.call_soon_threadsafe(loaded.set)
        return cores[0]

    tasks, refused = Tasks(), list[PsistreamError]()
    tasks.spawn(_join(join, host, where, port, loaded, refused), "join")
    async with server:
        try:
            why = await host.run(load)
        finally:
            await tasks.close()
    if refused:
        raise refused[0]
    return why


async def _join(
    join: WorkerJoin | None,
    host: Host,
    where: Listen,
    port: int,
    loaded: asyncio.Event,
    refused: list[PsistreamError],
) -> None:
    """Be a member of the directory once the model is loaded. A worker that may not be one ends."""
    if join is None:
        return
    await loaded.wait()
    scheme = "tcp" if where.tls is None else "tls"
    url = f"{scheme}://{join.advertise}" if join.advertise else where.url(port)
    instance = new_instance()

    def message() -> JoinWorker:
        draining = any(w.draining and not w.retired for w in membership.roster.workers if w.name == join.name)
        return JoinWorker(join.name, url, join.host, join.labels, instance, draining)

    def report() -> WorkerReport:
        return WorkerReport(host.mail.capacity, sum(1 for _ in host.mail.leases))

    membership = Membership(join.directory, where.key, join.ca, message, report=report)
    async with membership:
        try:
            await membership.joined()
        except PsistreamError as error:
            refused.append(error)
            host.end()
            return
        await asyncio.Event().wait()
