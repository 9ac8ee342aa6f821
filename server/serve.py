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
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from engine.commands.model_options import add_model
from engine.commands.runner import OK, Parser, run
from engine.config import RuntimeConfig
from engine.errors import Unavailable
from server.config import IceServer, MediaConfig, Placement, ServerConfig, WorkerConfig
from server.control.mqtt import arguments as mqtt

if TYPE_CHECKING:
    from server.http.services import Services

KEY_VARIABLE = "PSISTREAM_API_KEY"
QUIET = ("aiortc", "aioice", "amqtt", "aiomqtt", "uvicorn", "transitions", "libav")
defaults = ServerConfig()


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="psistream serve", description="Run the server; its page is on the same port.")
    add = p.add_argument
    add("--host", default=defaults.host, help="address to listen on (default: only this machine)")
    add("--port", type=int, default=defaults.port, help="HTTP port (default: %(default)s)")
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
    add("--allow-origin", action="append", default=[], metavar="URL", help="another site that may call this")
    add("--api-key", default=os.environ.get(KEY_VARIABLE), help=f"key for opening sessions (${KEY_VARIABLE})")
    mqtt.add_arguments(p)
    add("--log-level", choices=("debug", "info", "warning", "error"), default="warning")
    return p


def settings(args: argparse.Namespace) -> ServerConfig:
    """Raises InvalidInput."""
    return ServerConfig(
        host=args.host,
        port=args.port,
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
        api_key=args.api_key or None,
        origins=tuple(args.allow_origin),
        ice_servers=tuple(IceServer.parse(url) for url in args.ice_server),
        max_viewers=args.max_viewers,
        client_sessions=args.client_sessions,
        client_device_s=args.client_device_s,
    )


def main(argv: Sequence[str] | None = None) -> int:
    return run("psistream serve", lambda: _main(parser().parse_args(argv)))


def _main(args: argparse.Namespace) -> int:
    level = args.log_level.upper()
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if level not in ("DEBUG", "INFO"):
        for name in QUIET:
            logging.getLogger(name).setLevel("ERROR")
    config = settings(args)
    with bound(config.host, config.port) as listener, contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(config, listener, args.log_level))
    return OK


@contextlib.contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """The listening socket, bound before anything costly starts. Raises Unavailable."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(128)  # otherwise a second server could still bind the port
        except OSError as error:
            raise Unavailable(_why_not(error, host, port), field="port") from None
        yield listener


def _why_not(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is taken by another program; choose one with --port, such as --port {port + 1}"
    if error.errno == errno.EACCES:
        return f"port {port} needs special rights; choose one above 1023 with --port"
    return f"cannot listen on {host}, port {port}: {error.strerror or error}; check --host and --port"


async def serve(config: ServerConfig, listener: socket.socket, log_level: str) -> None:
    """Serve until SIGINT or SIGTERM. Raises PsistreamError if the server cannot start."""
    import uvicorn

    from server.http.app import create_app

    class Server(uvicorn.Server):
        """uvicorn would raise the signal again while we are still stopping."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    app = create_app(config)
    server = Server(
        uvicorn.Config(
            app,
            lifespan="off",  # entered below: a failing start is one line, not a traceback
            log_level=log_level,
            access_log=log_level == "debug",
            timeout_graceful_shutdown=1,
            limit_concurrency=256,
            ws="none",
            loop="asyncio",
            server_header=False,
        )
    )
    with stopping(server):
        try:
            async with app.router.lifespan_context(app):
                print(greeting(app.state.services, listener.getsockname()[1]), flush=True)
                await server.serve(sockets=[listener])
        except asyncio.CancelledError:  # stopped while the model was loading
            return


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


def greeting(services: Services, port: int) -> str:
    """What to click, and at most two lines about other ways in."""
    config, access = services.config, services.access
    host = "localhost" if config.loopback or config.host in ("0.0.0.0", "::") else config.host
    main = services.gateway.session("main")
    where = f"http://{host}:{port}" + (f"/#token={main.token}" if main.token else "")
    lines = [f"psistream is live at {where}"]
    if access.api_key is not None and config.api_key is None:
        lines.append(f"  to open your own sessions: Authorization: Bearer {access.api_key}")
    if services.mqtt is not None:
        lines.append(f"  {services.mqtt.greeting}")
    other = "" if port == defaults.port else f" {where}"
    lines.append(f"  steer from another terminal: psistream play{other}")
    return "\n".join(lines[:3])
