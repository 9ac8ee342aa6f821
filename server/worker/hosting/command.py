"""`psistream worker`: a worker that listens on a port, for gateways on this or other machines.

It outlives them: sessions continue for a while, until a gateway claims them (see leases).
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import signal
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.commands.model_options import add_model
from engine.commands.runner import FAILED, OK, Parser, run
from engine.config import RuntimeConfig
from engine.errors import InvalidInput, Unavailable
from server.config import LogConfig, MediaConfig, WorkerConfig
from server.keys import MAKE_ONE, read_secret
from server.log_format import set_up
from server.worker.core import Emit, WorkerCore
from server.worker.hosting.host import Host, leave


@dataclass(frozen=True)
class Listen:
    """Where the worker listens. `key` is empty only on loopback."""

    host: str
    port: int
    key: bytes
    tls: ssl.SSLContext | None = None


def parser() -> argparse.ArgumentParser:
    p = Parser(
        prog="psistream worker",
        description="Run a model for gateways that connect to it: psistream serve --worker tcp://HOST:PORT. "
        "Without TLS use it in a network of your own only.",
    )
    add = p.add_argument
    add("--listen", required=True, metavar="HOST:PORT", help="where to listen, such as 10.0.0.7:7070")
    add(
        "--key-file",
        type=Path,
        metavar="FILE",
        help="its gateways have the same key; optional on loopback",
    )
    add("--tls-cert", type=Path, metavar="FILE", help="certificate with its chain (PEM), for tls://")
    add("--tls-key", type=Path, metavar="FILE", help="the certificate's key (PEM)")
    add_model(p)
    add("--image", type=Path, metavar="FILE", help="start image of sessions (default: only their prompt)")
    add(
        "--max-sessions",
        type=int,
        default=RuntimeConfig().max_sessions,
        metavar="N",
        help="even if its device could serve more (default: %(default)s)",
    )
    add(
        "--max-load",
        type=float,
        default=RuntimeConfig().max_load,
        metavar="SHARE",
        help="share of the device's time that sessions may be promised (default: %(default)s)",
    )
    add("--bitrate", type=int, metavar="KBPS", help="bitrate of the video (default: by its size)")
    add("--log-format", choices=("text", "json"), default="text", help="format of the log, on standard error")
    add("--log-level", choices=("debug", "info", "warning", "error"), default="warning")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    return run("psistream worker", lambda: _main(parser().parse_args(argv)))


def _main(args: argparse.Namespace) -> int:
    set_up(args.log_format, args.log_level.upper())
    config = WorkerConfig(
        backend=args.backend,
        model=args.model,
        weights=args.weights,
        image=args.image,
        runtime=RuntimeConfig(max_sessions=args.max_sessions, max_load=args.max_load),
        media=MediaConfig(bitrate_bps=None if args.bitrate is None else 1000 * args.bitrate),
        log=LogConfig(args.log_format, args.log_level.upper()),
    )
    where = listen_of(args)
    cores: list[WorkerCore] = []
    broken: str | None = "it was stopped"
    try:
        broken = asyncio.run(serve(config, where, cores))
    finally:
        if cores:
            leave(cores[0], OK if broken is None else FAILED)
    return OK


def listen_of(args: argparse.Namespace) -> Listen:
    """Raises InvalidInput."""
    host, _, port = args.listen.rpartition(":")
    host = host.strip("[]")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise InvalidInput(f"--listen must look like 10.0.0.7:7070, not {args.listen!r:.40}", field="listen")
    if args.key_file is None and not _is_loopback(host):
        raise InvalidInput(
            f"--listen {host} lets others in: give --key-file; {MAKE_ONE} > worker.key",
            field="key_file",
        )
    if (args.tls_cert is None) != (args.tls_key is None):
        raise InvalidInput("--tls-cert and --tls-key belong together: give both or none", field="tls_cert")
    key = b"" if args.key_file is None else read_secret(args.key_file, "--key-file")
    return Listen(host, int(port), key, None if args.tls_cert is None else _tls(args.tls_cert, args.tls_key))


async def serve(config: WorkerConfig, where: Listen, cores: list[WorkerCore]) -> str | None:
    """Run until SIGINT or SIGTERM, or until the device has failed, which is then returned. `cores` gets the
    core that is loaded. Raises PsistreamError."""
    loop = asyncio.get_running_loop()
    host = Host(where.key, private=False)
    try:
        server = await loop.create_server(host.connection, where.host, where.port, ssl=where.tls)
    except OSError as error:
        raise Unavailable(
            f"cannot listen on {where.host}, port {where.port}: {error.strerror or error}; check --listen",
            field="listen",
        ) from None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, host.end)

    def load(emit: Emit) -> WorkerCore:
        cores.append(WorkerCore(config, emit))
        name = f"{where.host}:{server.sockets[0].getsockname()[1]}"
        print(f"psistream worker: {cores[0].ready.model} on {cores[0].ready.backend}, at {name}", flush=True)
        return cores[0]

    async with server:
        return await host.run(load)


def _tls(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:
        raise InvalidInput(
            f"--tls-cert and --tls-key: {certificate} and {key} are no certificate and its key in PEM form "
            f"({error.strerror or error})",
            field="tls_cert",
        ) from None
    return context


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
