"""The parts of a running server that its routes need, and how they start and stop together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from starlette.requests import Request

from engine.errors import Unavailable
from engine.images import decode_image
from engine.types import ByteArray
from server.config import ServerConfig
from server.control.mqtt.bridge import MqttBridge
from server.control.mqtt.service import open_mqtt
from server.gateway.gateway import Gateway
from server.gateway.session import GatewaySession
from server.http.auth import Access, client_name
from server.http.problems import RateLimited, TooLarge, TooSlow
from server.http.snapshot_header import check_header
from server.metrics import Metrics
from server.ratelimit import TokenBucket
from server.tasks import Tasks
from server.webrtc.viewers import FAREWELL_S, Viewers
from server.worker.base import NOT_RUNNING, MakeWorker
from server.worker.messages import WorkerReady

LAG_EVERY_S = 0.5
PICTURES_AT_ONCE = 2
NEW_PER_S, NEW_BURST = 1.0, 20  # sessions opened over HTTP
EXPORT_PER_S, EXPORT_BURST = 5.0, 20  # snapshots and logs
JOIN_PER_S, JOIN_BURST = 10.0, 64  # viewers: each costs a certificate and sockets
MAX_BODY_BYTES = 64 * 1024
SNAPSHOT_EXTRA_BYTES = 64 * 1024
BODY_TIMEOUT_S = 20.0


@dataclass
class Services:
    config: ServerConfig
    access: Access
    metrics: Metrics
    gateway: Gateway
    viewers: Viewers
    mqtt: MqttBridge | None = None
    decoding: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PICTURES_AT_ONCE))
    openings: TokenBucket = field(default_factory=lambda: TokenBucket(NEW_PER_S, NEW_BURST, time.monotonic()))
    joinings: TokenBucket = field(
        default_factory=lambda: TokenBucket(JOIN_PER_S, JOIN_BURST, time.monotonic())
    )
    exports: TokenBucket = field(
        default_factory=lambda: TokenBucket(EXPORT_PER_S, EXPORT_BURST, time.monotonic())
    )
    http_controls: TokenBucket = field(init=False)

    def __post_init__(self) -> None:
        rate = self.config.controls_per_s
        self.http_controls = TokenBucket(rate, int(2 * rate), time.monotonic())

    def driven(self, request: Request, session_id: str) -> GatewaySession:
        """The session, if this caller may steer it. Raises UnknownSession, Unauthorized, Forbidden."""
        session = self.gateway.session(session_id)
        self.access.steer(session, request.headers.get("authorization"))
        return session

    def watched(self, request: Request, session_id: str) -> GatewaySession:
        """The session, if this caller may watch it. Raises UnknownSession, Unauthorized."""
        session = self.gateway.session(session_id)
        self.access.role(session, request.headers.get("authorization"))
        return session

    def client(self, request: Request) -> str:
        """Whose budget a new session is charged to."""
        return client_name(request.client.host if request.client else None)

    @property
    def max_snapshot_bytes(self) -> int:
        """The most that a session's file may have, its header included. Raises Unavailable."""
        return self._worker().state_bytes + SNAPSHOT_EXTRA_BYTES

    def check_snapshot(self, data: bytes) -> None:
        """Raises InvalidInput, Unavailable."""
        check_header(data, self._worker().model)

    def decode_image(self, data: bytes) -> ByteArray:
        """At the model's size. Raises InvalidInput, Unavailable. To be called in a thread."""
        ready = self._worker()
        return decode_image(data, ready.width, ready.height)

    def _worker(self) -> WorkerReady:
        ready = self.gateway.ready
        if ready is None:
            raise Unavailable(self.gateway.fault or NOT_RUNNING)
        return ready

    def slow_down(self, bucket: TokenBucket) -> None:
        """Raises RateLimited."""
        if not bucket.allow(time.monotonic()):
            raise RateLimited("too many requests: wait a moment")


async def read_body(request: Request, limit: int = MAX_BODY_BYTES) -> bytes:
    """The body, of at most `limit` bytes. Raises TooLarge, TooSlow."""
    declared = request.headers.get("content-length", "0")
    if not (declared.isascii() and declared.isdigit()) or int(declared) > limit:
        raise _too_large("body", limit)
    return await streamed(request, limit, "body", lambda body: None)


async def streamed(request: Request, limit: int, what: str, look: Callable[[bytearray], None]) -> bytes:
    """Like `read_body`, but it ignores the declared size. `look` sees what has arrived so far, and may raise
    before the size is judged. Raises TooLarge, TooSlow."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                look(body)
                if len(body) > limit:
                    raise _too_large(what, limit)
    except TimeoutError:
        raise TooSlow(f"the body did not come within {BODY_TIMEOUT_S:.0f} s", field="body") from None
    return bytes(body)


def _too_large(what: str, limit: int) -> TooLarge:
    return TooLarge(f"the {what} may have at most {limit} bytes", field="body")


@asynccontextmanager
async def running(config: ServerConfig, access: Access, make_worker: MakeWorker) -> AsyncIterator[Services]:
    """Everything behind the routes, from loading the model to the last message to viewers."""
    metrics = Metrics()
    tasks = Tasks()
    async with Gateway(config, make_worker, metrics) as gateway, Viewers(config, gateway, metrics) as viewers:
        services = Services(config, access, metrics, gateway, viewers)
        async with open_mqtt(config.mqtt, gateway, config.mqtt_options) as services.mqtt:
            if services.mqtt is not None:
                metrics.mqtt(services.mqtt)
            tasks.spawn(_measure_lag(metrics), "measure-lag")
            try:
                yield services
            finally:
                await tasks.close()
                await gateway.end_all()
                if len(viewers):
                    await asyncio.sleep(FAREWELL_S)  # or connections end before their last message


async def _measure_lag(metrics: Metrics) -> None:
    clock = time.monotonic
    while True:
        due_s = clock() + LAG_EVERY_S
        await asyncio.sleep(LAG_EVERY_S)
        metrics.loop_lag_s.set(max(0.0, clock() - due_s))


def worker_maker(config: ServerConfig) -> MakeWorker:
    """Makes workers in the placement that the settings ask for."""
    if config.placement == "thread":
        from server.worker.thread import InProcessWorker

        return partial(InProcessWorker, config.worker)
    from server.worker.process import ProcessWorker

    return partial(ProcessWorker, config.worker)
