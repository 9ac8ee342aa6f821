"""The parts of a running server that its routes need, and how they start and stop together."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from starlette.requests import Request

from engine.errors import Full, Unavailable, UnknownSession
from engine.types import ByteArray
from server.config import MIN_BITRATE_BPS, ServerConfig
from server.control.mqtt.bridge import MqttBridge
from server.control.mqtt.service import UNKNOWN, ModelFacts, open_mqtt
from server.gateway.gateway import Gateway
from server.gateway.session import MAIN, GatewaySession
from server.http.auth import Access, Unauthorized, bearer, client_name
from server.http.edge.forwarding import Forwarding
from server.http.edge.reach import GatewayReach, Identity
from server.http.pictures.pool import Pictures, clips_of_strangers
from server.http.previews import Previews
from server.http.problems import RateLimited, TooSlow, too_large
from server.http.snapshot_header import check_header
from server.metrics import Metrics
from server.ratelimit import LayeredLimit
from server.recording.hls import Hls
from server.tasks import Tasks
from server.webrtc.pushes import Pushes
from server.webrtc.viewers import FAREWELL_S, Viewers
from server.worker.base import NOT_RUNNING, MakeWorker
from server.worker.contexts import PictureFormat
from server.worker.messages.events import WorkerReady

LAG_EVERY_S = 0.5
PUSH_EVERY_S = 1.0
# requests per second and burst: for each token, session and address, and for all together
OPENINGS = (1, 20), (1, 20), (1, 20), (5, 60)
JOININGS = (4, 24), (6, 32), (16, 96), (40, 192)  # each viewer costs a certificate and sockets
EXPORTS = (1, 8), (1, 8), (4, 24), (10, 48)  # snapshots and logs
LISTINGS = (2, 24), (2, 24), (4, 48), (10, 96)  # that ask all gateways
TRICKLES = (4, 24), (40, 240), (40, 240), (80, 480)  # the first: for each viewer
LARGE_BODIES_AT_ONCE = 4  # requests that wait in threads for their picture
MAX_BODY_BYTES = 64 * 1024
SNAPSHOT_EXTRA_BYTES = 64 * 1024
BODY_TIMEOUT_S = 20.0
NEWS_S = 0.1, 1.2  # owners leave a record with their worker each second


@dataclass
class Services:
    config: ServerConfig
    access: Access
    metrics: Metrics
    gateway: Gateway
    viewers: Viewers
    pushes: Pushes
    forwarding: Forwarding
    mqtt: MqttBridge | None = None
    reach: GatewayReach | None = None  # of a gateway that has joined a directory
    hls: dict[str, Hls] = field(default_factory=dict)  # by session, while somebody requests its playlist
    pictures: Pictures = field(default_factory=Pictures)
    clips: Pictures = field(default_factory=clips_of_strangers)
    parsing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LARGE_BODIES_AT_ONCE))
    openings: LayeredLimit = field(default_factory=lambda: LayeredLimit(*OPENINGS))
    joinings: LayeredLimit = field(default_factory=lambda: LayeredLimit(*JOININGS))
    exports: LayeredLimit = field(default_factory=lambda: LayeredLimit(*EXPORTS))
    listings: LayeredLimit = field(default_factory=lambda: LayeredLimit(*LISTINGS))
    trickles: LayeredLimit = field(default_factory=lambda: LayeredLimit(*TRICKLES))
    controls: LayeredLimit = field(init=False)

    def __post_init__(self) -> None:
        rate = self.config.controls_per_s
        own = (rate, int(2 * rate))
        self.controls = LayeredLimit(own, own, (4 * rate, int(8 * rate)), (40 * rate, int(80 * rate)))
        self._media: tuple[list[int], PictureFormat | None] = [MIN_BITRATE_BPS], None

    def driven(self, request: Request, session_id: str) -> GatewaySession:
        """The session, if this caller may steer it. Raises UnknownSession, Unauthorized, Forbidden."""
        session = self.gateway.session(session_id)
        self.access.steer(session, request.headers.get("authorization"))
        return session

    def owned(self, request: Request, session_id: str) -> GatewaySession:
        """The session, if this caller may copy, share and close it. Raises UnknownSession, Unauthorized,
        Forbidden."""
        session = self.gateway.session(session_id)
        self.access.own(session, request.headers.get("authorization"))
        return session

    def authorize(self, session_id: str, token: str) -> None:
        """Whether this token may steer. Raises UnknownSession, Unauthorized, Forbidden."""
        self.access.steer_by(self.gateway.session(session_id), token)

    def watched(self, request: Request, session_id: str) -> GatewaySession:
        """The session, if this caller may watch it. Raises UnknownSession, Unauthorized."""
        session = self.gateway.session(session_id)
        self.access.role(session, request.headers.get("authorization"))
        return session

    async def joined(self, request: Request, session_id: str) -> GatewaySession:
        """The session, if this caller may watch it here: one of another gateway too, if a worker of this one
        runs it. Raises UnknownSession, Unauthorized, Full."""
        session = await self.gateway.guests.find(session_id)
        if session is None:
            return self.watched(request, session_id)
        token = bearer(request.headers.get("authorization"))
        for wait_s in NEWS_S if token else ():  # a link may be so new that its owner has not told of it yet
            with contextlib.suppress(Unauthorized):
                self.access.role_of(session, token)
                return session
            await asyncio.sleep(wait_s)
            await self.gateway.guests.renew(session_id)
        self.access.role_of(session, token)
        return session

    def shown(self, session_id: str) -> GatewaySession:
        """The session that viewers of this gateway watch. Raises UnknownSession."""
        return self.gateway.guests.get(session_id) or self.gateway.session(session_id)

    def client(self, request: Request) -> str:
        """The client whose budget a new session is charged to."""
        return client_name(request.client.host if request.client else None)

    @property
    def max_snapshot_bytes(self) -> int:
        """The maximum size of a snapshot file, including its header. Raises Unavailable."""
        return self._worker().state_bytes + SNAPSHOT_EXTRA_BYTES

    def check_snapshot(self, data: bytes) -> None:
        """Raises InvalidInput, Unavailable."""
        check_header(data, self._worker().model)

    def decoder(self, owner: str) -> Callable[[bytes], ByteArray]:
        """A function that decodes a picture of `owner` at the model's size. Call it in a thread. It raises
        InvalidInput, Busy, Unavailable."""
        ready = self._worker()
        return partial(self.pictures.decode, owner, ready.width, ready.height)

    def clip_decoder(self, owner: str) -> Callable[[bytes], ByteArray]:
        """The same for a clip that a session should continue."""
        r = self._worker()

        def decode(data: bytes) -> ByteArray:
            more = r.fps, r.frames_per_segment, r.start_frames
            return self.clips.decode(owner, r.width, r.height, data, *more)

        return decode

    def media(self) -> tuple[list[int], PictureFormat | None]:
        """The bitrates of a session's rungs, and the picture of the top one. While no worker runs, those of
        the last worker; before the first one, only the top rung, without a picture."""
        if ready := self.gateway.ready:
            size = ready.width, ready.height
            media = self.config.worker.media
            media = replace(media, bitrate_bps=ready.bitrate_bps or media.bitrate_bps)
            rungs, scale = media.ladder(*size, ready.fps), media.scale(*size)
            picture = PictureFormat(size[0] * scale, size[1] * scale, ready.fps, rungs[0].bitrate_bps)
            self._media = [rung.bitrate_bps for rung in rungs], picture
        return self._media

    def close_hls(self, *, idle_only: bool = False) -> None:
        """Close HLS streams. With `idle_only`, only those that nobody requests or whose session has ended."""
        for name, hls in list(self.hls.items()):
            if not idle_only or hls.idle or name not in self.gateway.session_ids():
                self.hls.pop(name).close()

    def _worker(self) -> WorkerReady:
        ready = self.gateway.ready
        if ready is None:
            raise Unavailable(self.gateway.fault or NOT_RUNNING)
        return ready

    def enter(
        self,
        limit: LayeredLimit,
        request: Request,
        session: GatewaySession | None = None,
        name: str | None = None,
    ) -> None:
        """Count a request against the shares of its token (or another `name`), session and address. Raises
        RateLimited."""
        token = bearer(request.headers.get("authorization")) if name is None else name
        whose = session.id if session else ""
        wait_s = limit.wait_s(token, whose, self.client(request), time.monotonic())
        if wait_s > 0:
            raise RateLimited("too many requests: wait a moment", retry_after_s=wait_s)


async def read_body(request: Request, limit: int = MAX_BODY_BYTES) -> bytes:
    """The body, of at most `limit` bytes. Raises TooLarge, TooSlow."""
    declared = request.headers.get("content-length", "0")
    if not (declared.isascii() and declared.isdigit()) or int(declared) > limit:
        raise too_large("body", limit)
    return await streamed(request, limit, "body", lambda body: None)


async def streamed(request: Request, limit: int, what: str, look: Callable[[bytearray], None]) -> bytes:
    """Like `read_body`, but it ignores the declared size. `look` gets the data received so far, and may raise
    before the size is checked. Raises TooLarge, TooSlow."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                look(body)
                if len(body) > limit:
                    raise too_large(what, limit)
    except TimeoutError:
        raise TooSlow(f"the body did not come within {BODY_TIMEOUT_S:.0f} s", field="body") from None
    return bytes(body)


@asynccontextmanager
async def running(
    config: ServerConfig,
    access: Access,
    make_worker: MakeWorker | Sequence[MakeWorker],
    forwarding: Forwarding,
    identity: Identity,
) -> AsyncIterator[Services]:
    """Everything behind the routes, from loading the model to the last message to viewers."""
    metrics = Metrics()
    tasks = Tasks()
    async with (
        Gateway(config, make_worker, metrics) as gateway,
        Viewers(config, gateway.shown, metrics, new_id=gateway.peers.new_id) as viewers,
        Pushes(config, gateway) as pushes,
    ):
        services = Services(config, access, metrics, gateway, viewers, pushes, forwarding)
        if config.whip is not None:
            tasks.spawn(_push_main(services, config.whip), "push-main")
        if gateway.joined is not None:
            services.reach = reach = GatewayReach(gateway.peers, config.advertise, identity)
            gateway.joined.unreached = lambda: reach.faults
            tasks.spawn(reach.run(), "reach")
        ready = gateway.ready
        model = ModelFacts(ready.fps, tuple(ready.actions)) if ready else UNKNOWN
        async with open_mqtt(
            config.mqtt,
            gateway,
            config.mqtt_options,
            model=model,
            authorize=services.authorize,
            member=gateway.peers.name,
            owner_of=gateway.owner_of,
        ) as services.mqtt:
            if services.mqtt is not None:
                metrics.mqtt(services.mqtt)
            if services.mqtt is not None and config.mqtt_options.discovery is not None:
                tasks.spawn(Previews(gateway.sessions, services.mqtt).run(), "previews")
            tasks.spawn(_look_after(services), "look-after")
            try:
                yield services
            finally:
                await tasks.close()
                await asyncio.to_thread(services.pictures.close)
                await asyncio.to_thread(services.clips.close)
                services.close_hls()
                await gateway.end_all()
                if len(viewers):
                    await asyncio.sleep(FAREWELL_S)  # otherwise connections end before their last message


async def _push_main(services: Services, url: str) -> None:
    """Push the session `main` whenever it exists and is not pushed yet; it is reopened after a loss."""
    while True:
        with contextlib.suppress(UnknownSession, Full):  # Full: it is saved and waits for a place
            main = services.gateway.session(MAIN)
            if not services.pushes.of(main.id):
                rates, _ = services.media()
                services.pushes.start(main.id, main.fanout, rates, url, services.config.whip_token)
        await asyncio.sleep(PUSH_EVERY_S)


async def _look_after(services: Services) -> None:
    """Ends HLS streams that nobody requests, and measures how late the event loop is."""
    clock = time.monotonic
    while True:
        services.close_hls(idle_only=True)
        due_s = clock() + LAG_EVERY_S
        await asyncio.sleep(LAG_EVERY_S)
        services.metrics.loop_lag_s.set(max(0.0, clock() - due_s))
