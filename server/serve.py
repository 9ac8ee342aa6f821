"""`psistream serve`: options → settings, one port, one link to click, and a clean end.

It imports the application only after the options are checked and the port is bound, so that mistakes are
reported at once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import logging
import os
import resource
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from engine.commands.model_options import add_model
from engine.commands.runner import OK, Parser, run
from engine.config import RuntimeConfig
from engine.errors import InvalidInput, Unavailable
from server.config import IceServer, MediaConfig, Placement, ServerConfig, WorkerConfig, parse_ports
from server.control.mqtt import arguments as mqtt
from server.greeting import greeting
from server.http.edge.prefix import checked_prefix
from server.log_format import formatter
from server.logs import FloodFilter
from server.tasks import Tasks

if TYPE_CHECKING:
    pass

KEY_VARIABLE = "PSISTREAM_API_KEY"
WHIP_VARIABLE = "PSISTREAM_WHIP_TOKEN"
QUIET = ("aiortc", "aioice", "amqtt", "aiomqtt", "uvicorn", "transitions", "libav")
defaults = ServerConfig()


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="psistream serve", description="Run the server; its page is on the same port.")
    add = p.add_argument
    add("--host", default=defaults.host, help="address to listen on (default: only this machine)")
    add("--port", type=int, default=defaults.port, help="HTTP port (default: %(default)s)")
    add(
        "--root-path",
        default="",
        metavar="PATH",
        help="path under which a proxy publishes it, such as /video",
    )
    add_model(p)
    add("--image", type=Path, metavar="FILE", help="start image of sessions (default: only their prompt)")
    add("--prompt", default=defaults.prompt, help="prompt of the shared session")
    add("--seed", type=int, help="seed of the shared session (default: random)")
    add("--worker", choices=("process", "thread"), default=defaults.placement, help="where the model runs")
    add(
        "--max-sessions",
        type=int,
        default=RuntimeConfig().max_sessions,
        metavar="N",
        help="upper limit, even if the device could serve more (default: %(default)s)",
    )
    add(
        "--max-load",
        type=float,
        default=RuntimeConfig().max_load,
        metavar="SHARE",
        help="share of the device's time that sessions may be promised; above 1 they play in slow motion "
        "instead of being refused (default: %(default)s)",
    )
    add(
        "--client-sessions",
        type=int,
        default=defaults.client_sessions,
        metavar="N",
        help="sessions that one address may have at once; 0: no limit (default: %(default)s)",
    )
    add(
        "--client-device-s",
        type=float,
        default=defaults.client_device_s,
        metavar="S",
        help="device seconds per minute for all sessions of one address (default: no limit)",
    )
    add(
        "--max-viewers",
        type=int,
        default=defaults.max_viewers,
        metavar="N",
        help="limit for all sessions together (default: %(default)s)",
    )
    add("--bitrate", type=int, metavar="KBPS", help="bitrate of the video (default: by its size)")
    add(
        "--ice-server", action="append", default=[], metavar="URL", help="stun:host:port, turn:user:pass@host"
    )
    add("--udp-ports", metavar="A-B", help="for the video, such as 40000-40100 (default: any free ports)")
    add(
        "--public-address",
        action="append",
        default=[],
        metavar="IP",
        help="address of the router or host that forwards --udp-ports to this machine",
    )
    add("--whip", metavar="URL", help="push the session `main` to this media server, where many can watch it")
    add(
        "--whip-token",
        default=os.environ.get(WHIP_VARIABLE),
        metavar="TOKEN",
        help=f"token for --whip (${WHIP_VARIABLE})",
    )
    add("--allow-origin", action="append", default=[], metavar="URL", help="another site that may call this")
    add("--api-key", default=os.environ.get(KEY_VARIABLE), help=f"key for opening sessions (${KEY_VARIABLE})")
    mqtt.add_arguments(p)
    add(
        "--spare",
        choices=("auto", "on", "off"),
        default=defaults.spare,
        help="keep a second worker loaded, so that a failure of the first is over in less than a second "
        "(default: if memory allows)",
    )
    add(
        "--ops-port",
        metavar="[HOST:]PORT",
        help="serve health and metrics here, whatever happens on the other port (default host: 127.0.0.1)",
    )
    add("--log-format", choices=("text", "json"), default="text", help="of the log, on standard error")
    add("--log-level", choices=("debug", "info", "warning", "error"), default="warning")
    return p


def settings(args: argparse.Namespace) -> ServerConfig:
    """Raises InvalidInput."""
    ops_host, ops_port = _ops_address(args.ops_port)
    return ServerConfig(
        host=args.host,
        port=args.port,
        ops_host=ops_host,
        ops_port=ops_port,
        worker=WorkerConfig(
            backend=args.backend,
            model=args.model,
            weights=args.weights,
            image=args.image,
            runtime=RuntimeConfig(max_sessions=args.max_sessions, max_load=args.max_load),
            media=MediaConfig(bitrate_bps=None if args.bitrate is None else 1000 * args.bitrate),
        ),
        placement=cast(Placement, args.worker),
        mqtt=args.mqtt,
        mqtt_options=mqtt.options_of(args),
        prompt=args.prompt,
        seed=args.seed,
        root_path=checked_prefix(args.root_path),
        api_key=args.api_key or None,
        origins=tuple(args.allow_origin),
        ice_servers=tuple(IceServer.parse(url) for url in args.ice_server),
        udp_ports=None if args.udp_ports is None else parse_ports(args.udp_ports),
        public_addresses=tuple(args.public_address),
        whip=args.whip,
        whip_token=args.whip_token or None,
        max_viewers=args.max_viewers,
        spare=args.spare,
        client_sessions=args.client_sessions,
        client_device_s=args.client_device_s,
    )


def _ops_address(text: str | None) -> tuple[str, int | None]:
    """Host and port of --ops-port. Raises InvalidInput."""
    if text is None:
        return defaults.ops_host, None
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit()):
        raise InvalidInput(
            f"--ops-port must look like 9090 or 0.0.0.0:9090, not {text:.40}", field="ops_port"
        )
    return host.strip("[]") or defaults.ops_host, int(port)


def main(argv: Sequence[str] | None = None) -> int:
    return run("psistream serve", lambda: _main(parser().parse_args(argv)))


def _main(args: argparse.Namespace) -> int:
    level = args.log_level.upper()
    logging.basicConfig(level=level)
    logging.raiseExceptions = False  # a log that cannot be written, on a full disk, must not stop the server
    for handler in logging.getLogger().handlers:
        handler.addFilter(FloodFilter())
        handler.setFormatter(formatter(args.log_format))
    if level not in ("DEBUG", "INFO"):
        for name in QUIET:
            logging.getLogger(name).setLevel("ERROR")
    config = settings(args)
    with contextlib.ExitStack() as stack, contextlib.suppress(KeyboardInterrupt):
        listener = stack.enter_context(bound(config.host, config.port))
        ops = None
        if config.ops_port is not None:
            ops = stack.enter_context(bound(config.ops_host, config.ops_port, "--ops-port"))
        raise_file_limit()
        asyncio.run(serve(config, listener, args.log_level, ops))
    return OK


@contextlib.contextmanager
def bound(host: str, port: int, flag: str = "--port") -> Iterator[socket.socket]:
    """The listening socket, bound before anything costly starts. Raises Unavailable."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without it each answer may wait 40 ms
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(128)  # otherwise a second server could still bind the port
        except OSError as error:
            raise Unavailable(_why_not(error, host, port, flag), field="port") from None
        yield listener


def _why_not(error: OSError, host: str, port: int, flag: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is taken by another program; choose one with {flag}, such as {flag} {port + 1}"
    if error.errno == errno.EACCES:
        return f"port {port} needs special rights; choose one above 1023 with {flag}"
    return f"cannot listen on {host}, port {port}: {error.strerror or error}; check --host and {flag}"


def raise_file_limit() -> None:
    """Allow as many open files as the system does: a connection is one, and a viewer two or more."""
    with contextlib.suppress(OSError, ValueError):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def serve(
    config: ServerConfig, listener: socket.socket, log_level: str, ops: socket.socket | None = None
) -> None:
    """Serve until SIGINT or SIGTERM. Raises PsistreamError if the server cannot start."""
    from server.http.app import create_app, create_ops_app
    from server.http.connections import ConnectionLimits
    from server.http.listener import http_server

    app = create_app(config)
    server, connections = http_server(app, log_level, ConnectionLimits())
    tasks = Tasks()
    with stopping(server):
        try:
            async with app.router.lifespan_context(app):
                tasks.spawn(connections.run(), "limit-connections")
                if ops is not None:
                    limits = ConnectionLimits(most=32, per_address=32, headers_s=5.0)
                    other, others = http_server(create_ops_app(app.state.services), log_level, limits)
                    tasks.spawn(others.run(), "limit-ops-connections")
                    tasks.spawn(other.serve(sockets=[ops]), "serve-ops")
                tell(greeting(app.state.services, listener.getsockname()[1]))
                await server.serve(sockets=[listener])
                await tasks.close()
        except asyncio.CancelledError:  # stopped while the model was loading
            return


def tell(text: str) -> None:
    """Print it, if that is possible: standard output may be on a full disk, or closed."""
    with contextlib.suppress(OSError, ValueError):
        print(text, flush=True)


@contextlib.contextmanager
def stopping(server: object) -> Iterator[None]:
    """The first signal stops the server in an orderly way, the second at once."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def stop() -> None:
        import uvicorn

        assert isinstance(server, uvicorn.Server)
        if not server.started and task is not None:
            task.cancel()
        server.force_exit = server.should_exit
        server.should_exit = True

    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
