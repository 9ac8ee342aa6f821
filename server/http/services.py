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
from engine.types import ByteArray
from server.config import ServerConfig
from server.control.mqtt.bridge import MqttBridge
from server.control.mqtt.service import UNKNOWN, ModelFacts, open_mqtt
from server.gateway.gateway import Gateway
from server.gateway.session import GatewaySession
from server.http.auth import Access, bearer, client_name
from server.http.pictures import Pictures
from server.http.problems import RateLimited, TooLarge, TooSlow
from server.http.snapshot_header import check_header
from server.metrics import Metrics
from server.ratelimit import Door
from server.tasks import Tasks
from server.webrtc.viewers import FAREWELL_S, Viewers
from server.worker.base import NOT_RUNNING, MakeWorker
from server.worker.messages import WorkerReady

LAG_EVERY_S = 0.5
# requests per second and at once: for each token, session and address, and for all together
OPENINGS = (1, 20), (1, 20), (1, 20), (5, 60)
JOININGS = (4, 24), (6, 32), (16, 96), (40, 192)  # each viewer costs a certificate and sockets
EXPORTS = (1, 8), (1, 8), (4, 24), (10, 48)  # snapshots and logs
TRICKLES = (4, 24), (40, 240), (40, 240), (80, 480)  # the first: of each viewer
LARGE_BODIES_AT_ONCE = 4  # that wait in threads for their picture
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
    pictures: Pictures = field(default_factory=Pictures)
    parsing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LARGE_BODIES_AT_ONCE))
    openings: Door = field(default_factory=lambda: Door(*OPENINGS))
    joinings: Door = field(default_factory=lambda: Door(*JOININGS))
    exports: Door = field(default_factory=lambda: Door(*EXPORTS))
    trickles: Door = field(default_factory=lambda: Door(*TRICKLES))
    controls: Door = field(init=False)

    def __post_init__(self) -> None:
        rate = self.config.controls_per_s
        own = (rate, int(2 * rate))
        self.controls = Door(own, own, (4 * rate, int(8 * rate)), (40 * rate, int(80 * rate)))

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

    def decoder(self, owner: str) -> Callable[[bytes], ByteArray]:
        """What decodes a picture of `owner` at the model's size. To be called in a thread. It raises
        InvalidInput, Busy, Unavailable."""
        ready = self._worker()
        return partial(self.pictures.decode, owner, ready.width, ready.height)

    def _worker(self) -> WorkerReady:
        ready = self.gateway.ready
        if ready is None:
            raise Unavailable(self.gateway.fault or NOT_RUNNING)
        return ready

    def enter(
        self, door: Door, request: Request, session: GatewaySession | None = None, name: str | None = None
    ) -> None:
        """Count a request against the shares of its token (or another `name`), session and address. Raises
        RateLimited."""
        token = bearer(request.headers.get("authorization")) if name is None else name
        whose = session.id if session else ""
        wait_s = door.wait_s(token, whose, self.client(request), time.monotonic())
        if wait_s > 0:
            raise RateLimited("too many requests: wait a moment", retry_after_s=wait_s)


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
        ready = gateway.ready
        model = ModelFacts(ready.fps, tuple(ready.actions)) if ready else UNKNOWN
        async with open_mqtt(config.mqtt, gateway, config.mqtt_options, model=model) as services.mqtt:
            if services.mqtt is not None:
                metrics.mqtt(services.mqtt)
            tasks.spawn(_measure_lag(metrics), "measure-lag")
            try:
                yield services
            finally:
                await tasks.close()
                await asyncio.to_thread(services.pictures.close)
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
