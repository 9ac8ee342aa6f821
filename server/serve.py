"""`psistream serve`: checks the options, binds the port, runs the application and shuts it down in order.

The application is imported only after the options are checked and the port is bound, so that mistakes are
reported at once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import gc
import logging
import resource
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from engine.commandline.outputs import tell
from engine.commandline.runner import OK, run
from engine.errors import InvalidInput, Unavailable
from server.arguments import parser, settings
from server.cluster.gateway import advertised
from server.cluster.peers import MOVED
from server.config import ServerConfig
from server.http.greeting import announcement, greeting
from server.keys import KeyRing
from server.log_format import set_up
from server.tasks import Tasks
from server.worker.hosting.listen import wrong_address

if TYPE_CHECKING:  # imported only after the options are checked
    import uvicorn

    from server.http.services import Services

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    return run("psistream serve", lambda: _main(parser().parse_args(argv)))


def _main(args: argparse.Namespace) -> int:
    set_up(args.log_format, args.log_level.upper())
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
    """A listening socket, bound before anything expensive starts. Raises Unavailable."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only if the protocol is given; without it each response may be delayed by 40 ms
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(128)  # otherwise a second server could still bind the port
        except OSError as error:
            kind = InvalidInput if wrong_address(error) else Unavailable
            raise kind(_why_not(error, host, port, flag), field="port") from None
        yield listener


def _why_not(error: OSError, host: str, port: int, flag: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use by another program; choose another one, such as {flag} {port + 1}"
    if error.errno == errno.EACCES:
        return f"port {port} needs special privileges; choose one above 1023 with {flag}"
    return f"cannot listen on {host}, port {port}: {error.strerror or error}; check --host and {flag}"


def raise_file_limit() -> None:
    """Raise the limit of open files to the hard limit: a connection needs one file, a viewer two or more."""
    with contextlib.suppress(OSError, ValueError):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def serve(
    config: ServerConfig, listener: socket.socket, log_level: str, ops: socket.socket | None = None
) -> None:
    """Serve until SIGINT or SIGTERM. Raises PsistreamError if the server cannot start."""
    from server.http.app import create_app, create_ops_app
    from server.http.limited_protocol import ConnectionLimits
    from server.http.listener import http_server

    config = advertised(config, listener.getsockname()[1])
    app = create_app(config)
    server, connections = http_server(app, log_level, ConnectionLimits())
    tasks = Tasks()
    with stopping(server, app.state.access.keys, lambda: _send_on(app.state.services)):
        try:
            async with app.router.lifespan_context(app):
                tasks.spawn(connections.run(), "limit-connections")
                if ops is not None:
                    limits = ConnectionLimits(most=32, per_address=32, headers_s=5.0)
                    other, others = http_server(create_ops_app(app.state.services), log_level, limits)
                    tasks.spawn(others.run(), "limit-ops-connections")
                    tasks.spawn(other.serve(sockets=[ops]), "serve-ops")
                rarely_scanned()
                port = listener.getsockname()[1]
                if config.worker.log.kind == "json":  # for collectors: a single format without secrets
                    log.warning(announcement(app.state.services, port))
                else:
                    tell(greeting(app.state.services, port))
                await server.serve(sockets=[listener])
                await tasks.close()
        except asyncio.CancelledError:  # stopped while the model was loading
            return


def rarely_scanned() -> None:
    """Take what was loaded so far out of garbage collection. A full collection looks at every object and
    stops the event loop meanwhile; clients that hang up make garbage fast, and would cause many."""
    gc.collect()
    gc.freeze()


async def _send_on(services: Services) -> None:
    """Viewers join other gateways while this one still shows them the video."""
    from server.gateway.cluster.joined import RELEASED

    if services.gateway.peers.others:
        services.gateway.leaving = True
        await services.viewers.send_on(MOVED, RELEASED)


@contextlib.contextmanager
def stopping(server: object, keys: KeyRing, leave: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """Handle signals. The first SIGINT or SIGTERM stops the server in order, after `leave`; the second one at
    once. SIGHUP reloads the file of API keys; without a file it stops the server, since a terminal was
    closed."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    leaving: list[asyncio.Task[None]] = []

    async def stop_in_order(server: uvicorn.Server) -> None:
        try:
            await leave()
        finally:
            server.should_exit = True

    def stop() -> None:
        import uvicorn

        assert isinstance(server, uvicorn.Server)
        if server.started and not leaving:
            leaving.append(asyncio.create_task(stop_in_order(server), name="stop"))
            return
        if not server.started and task is not None:
            task.cancel()
        server.force_exit = server.should_exit or bool(leaving)
        server.should_exit = True

    def hang_up() -> None:
        if keys.has_file:
            keys.refresh()
        else:
            stop()

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in signals:
        loop.add_signal_handler(number, hang_up if number == signal.SIGHUP else stop)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
