"""`psistream cluster`: run the directory through which gateways find workers and each other, or ask it.

`up --workers` also places workers, on this machine or on Ray's hosts.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path

from engine.commandline.outputs import tell
from engine.commandline.parser import Parser, check_belongs
from engine.commandline.runner import OK, run
from engine.errors import InvalidInput
from server.cluster.directory import Directory
from server.cluster.operating import ask
from server.cluster.placement.on_ray.start import add_ray, start_ray
from server.cluster.placement.placement import MAX_PLACED
from server.cluster.placing import Placing, add_placing, placing_of
from server.keys import checked_authorities, read_secret
from server.log_format import set_up
from server.worker.hosting.listen import Listen, add_listen, cannot_listen, listen_of
from server.worker.remote import WorkerAddress

PORT = 7700
UP = (
    "Run the directory. With --workers it also places workers: here, or with --ray on Ray's hosts. Options "
    "that are not listed here are then those of `psistream worker`, such as --backend and --model; files "
    "must be at the same path on every host."
)


def parser() -> argparse.ArgumentParser:
    p = Parser(
        prog="psistream cluster",
        description="Several gateways and many workers: `up` runs the directory through which they find each "
        "other (psistream worker --join, psistream serve --join); the others ask it.",
    )
    kinds = p.add_subparsers(dest="what", required=True, metavar="up|status|drain|take-back|scale|ray|down")
    up = kinds.add_parser("up", help="run the directory", description=UP, allow_abbrev=False)
    add_listen(up.add_argument, f"127.0.0.1:{PORT}", "members")
    add_placing(up)
    add_logging(up)
    _asks(kinds.add_parser("status", help="show workers and gateways"))
    drain = kinds.add_parser("drain", help="move all sessions away from a host")
    drain.add_argument("host", metavar="HOST", help="as `status` shows it")
    drain.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="S",
        help="how long to wait until all sessions have moved (default: %(default)g)",
    )
    drain.add_argument(
        "--leave",
        action="store_true",
        help="then take the host away from Ray, which cannot be undone but by starting Ray there again",
    )
    _asks(drain)
    back = kinds.add_parser("take-back", help="end a drain")
    back.add_argument("host", metavar="HOST", help="as `status` shows it")
    _asks(back)
    scale = kinds.add_parser("scale", help="change the number of workers that are placed")
    scale.add_argument(
        "workers", type=int, metavar="N", help="workers that are drained end when they are empty"
    )
    _asks(scale)
    add_ray(kinds.add_parser("ray", help="start Ray on this host as placement needs it"))
    down = kinds.add_parser("down", help="end the directory and the workers that it has placed")
    down.add_argument("--keep-workers", action="store_true", help="leave them running (on Ray)")
    _asks(down)
    return p


def add_logging(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="format of the log, on standard error"
    )
    p.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="warning")


def _asks(p: argparse.ArgumentParser) -> None:
    """The options of a command that asks the directory."""
    p.add_argument(
        "--directory",
        default=f"tcp://127.0.0.1:{PORT}",
        metavar="URL",
        help="where it listens (default: %(default)s)",
    )
    p.add_argument("--key-file", type=Path, metavar="FILE", help="the cluster's key, or several")
    p.add_argument("--ca", type=Path, metavar="FILE", help="who signed its certificate (default: system)")


def main(argv: Sequence[str] | None = None) -> int:
    return run("psistream cluster", lambda: _main(*parser().parse_known_args(argv)))


def _main(args: argparse.Namespace, others: list[str]) -> int:
    """`others` are options that this command doesn't have: with `up --workers` they are the workers'."""
    if others and args.what != "up":
        raise InvalidInput(f"unrecognized arguments: {' '.join(others)} (see psistream cluster --help)")
    if args.what == "ray":
        start_ray(args)
    if args.what == "up":
        set_up(args.log_format, args.log_level.upper())
        where = listen_of(args)
        asyncio.run(up(where, placing_of(args, where, others)))
        return OK
    set_up("text", "CRITICAL")  # errors are this command's own
    if args.what == "scale" and not 0 <= args.workers <= MAX_PLACED:
        raise InvalidInput(f"N must be 0 to {MAX_PLACED}, not {args.workers}", field="workers")
    if args.what == "drain" and not 0 <= args.timeout < float("inf"):
        raise InvalidInput("--timeout must be 0 or a positive number of seconds", field="timeout")
    key = b"" if args.key_file is None else read_secret(args.key_file, "--key-file")
    address = WorkerAddress.parse(args.directory, "--directory")
    if not address.tls:
        check_belongs(args, "--directory tls://HOST:PORT", "ca")
    host, within_s = getattr(args, "host", ""), getattr(args, "timeout", 0.0)
    told = {name: vars(args)[name] for name in ("leave", "workers", "keep_workers") if name in args}
    ca = checked_authorities(args.ca, "--ca")
    asyncio.run(ask(args.what, address, key, ca, host, within_s, **told))
    return OK


async def up(where: Listen, placing: Placing | None = None) -> None:
    """Run the directory until SIGINT, SIGTERM or `psistream cluster down`. Raises Unavailable."""
    loop = asyncio.get_running_loop()
    directory = Directory(where.key)
    try:
        server = await loop.create_server(directory.entrance.door(where.tls), where.host, where.port)
    except OSError as error:
        raise cannot_listen(error, where) from None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, directory.end)
    async with server:
        url = where.url(server.sockets[0].getsockname()[1])
        tell(f"psistream cluster: the directory is at {url}")
        if placing is None:
            await directory.run()
            return
        async with placing.placement(directory.tables, url) as directory.places:
            await directory.run()
