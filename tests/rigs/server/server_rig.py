"""Rigs of the server's tests: a whole server in this process, a viewer, a worker without a device."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from av import VideoFrame
from fastapi import FastAPI

from engine.types import Receipt
from server.config import ServerConfig
from server.control.base import SessionEvent
from server.gateway.gateway import Gateway
from server.http.app import create_app
from server.http.services import Services
from server.metrics import Metrics
from server.webrtc.adapter.addresses import Gatherer, ice_connection
from server.webrtc.fanout import Fanout, Subscription
from server.worker.base import MakeWorker
from server.worker.messages.events import Packet, SegmentStats
from tests.rigs.server.fake_device import FAKE
from tests.rigs.server.fake_worker import READY as READY
from tests.rigs.server.fake_worker import FakeWorker as FakeWorker
from tests.rigs.server.fake_worker import exported as exported
from tests.rigs.server.fake_worker import opened as opened
from tests.rigs.waiting import LONG_S
from tests.rigs.waiting import until as until

SDP = {"Content-Type": "application/sdp"}


def config(**changes: Any) -> ServerConfig:
    """The fake backend in threads, no MQTT."""
    given: dict[str, Any] = {
        "worker": FAKE,
        "placement": "thread",
        "mqtt": "off",
        "prompt": "a red cat",
        "seed": 7,
    }
    return ServerConfig(**{**given, **changes})


class Live:
    """A running server and an HTTP client of it."""

    def __init__(self, app: FastAPI, http: httpx.AsyncClient) -> None:
        self.app, self.http = app, http
        self.services: Services = app.state.services

    async def control(self, body: dict[str, Any], session: str = "main", **headers: str) -> httpx.Response:
        return await self.http.post(f"/v1/sessions/{session}/controls", json=body, headers=headers)

    async def figure(self, line: str) -> float:
        """The value of one line of /metrics."""
        for text in (await self.http.get("/metrics")).text.splitlines():
            if text.startswith(line + " "):
                return float(text.rsplit(" ", 1)[1])
        raise AssertionError(f"/metrics has no {line}")


@asynccontextmanager
async def live(
    settings: ServerConfig | None = None, make_worker: MakeWorker | None = None, host: str = "localhost"
) -> AsyncIterator[Live]:
    app = create_app(settings or config(), make_worker)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as http:
            yield Live(app, http)


class Watcher:
    """An aiortc viewer, as independent of the server as a browser."""

    def __init__(self, pc: RTCPeerConnection, channel: RTCDataChannel | None) -> None:
        self.pc, self.channel = pc, channel
        self.messages: list[dict[str, Any]] = []
        self.track: MediaStreamTrack | None = None
        self.location = self.etag = ""
        pc.on("track", self._on_track)
        if channel is not None:
            channel.on("message", lambda text: self.messages.append(json.loads(text)))

    def _on_track(self, track: MediaStreamTrack) -> None:
        self.track = track

    async def offer(self) -> str:
        await self.pc.setLocalDescription(await self.pc.createOffer())
        return str(self.pc.localDescription.sdp)

    async def accept(self, response: httpx.Response) -> None:
        assert response.status_code == 201, response.text
        self.location, self.etag = response.headers["Location"], response.headers["ETag"]
        await self.pc.setRemoteDescription(RTCSessionDescription(response.text, "answer"))

    async def frame(self, within_s: float = LONG_S) -> VideoFrame:
        assert self.track is not None
        frame = await asyncio.wait_for(self.track.recv(), within_s)
        assert isinstance(frame, VideoFrame)
        return frame

    async def picture(self) -> npt.NDArray[np.uint8]:
        """The next frame as (H, W, 3) uint8 RGB."""
        return (await self.frame()).to_ndarray(format="rgb24").astype(np.uint8)

    def send(self, message: dict[str, Any]) -> None:
        assert self.channel is not None
        self.channel.send(json.dumps(message))

    def heard(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        """The messages of this type with these fields."""
        wanted = {"type": kind, **fields}
        return [m for m in self.messages if all(m.get(k) == v for k, v in wanted.items())]

    @property
    def codec(self) -> str:
        """The codec that was negotiated."""
        return str(self.pc.getTransceivers()[0]._codecs[0].mimeType).partition("/")[2].lower()


@asynccontextmanager
async def watcher(*, channel: bool = True, codecs: tuple[str, ...] = ()) -> AsyncIterator[Watcher]:
    """`codecs` are offered in this order; empty means aiortc's default."""
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    transceiver = pc.addTransceiver("video", direction="recvonly")
    Gatherer().install(ice_connection(transceiver))
    if codecs:
        known = RTCRtpSender.getCapabilities("video").codecs
        wanted = [c for name in codecs for c in known if c.mimeType.lower() == f"video/{name}"]
        transceiver.setCodecPreferences(wanted)
    data = pc.createDataChannel("control") if channel else None
    try:
        yield Watcher(pc, data)
    finally:
        await pc.close()


@asynccontextmanager
async def watching(
    server: Live, session: str = "main", query: str = "", token: str | None = None, **options: Any
) -> AsyncIterator[Watcher]:
    """A connected viewer."""
    headers = SDP | ({"Authorization": f"Bearer {token}"} if token else {})
    async with watcher(**options) as viewer:
        sdp = await viewer.offer()
        url = f"/v1/sessions/{session}/whep{query}"
        await viewer.accept(await server.http.post(url, content=sdp, headers=headers))
        yield viewer


@asynccontextmanager
async def answering(offer: str) -> AsyncIterator[RTCPeerConnection]:
    """An aiortc answerer without our hooks."""
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    try:
        await pc.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        yield pc
    finally:
        await pc.close()


def join(fanout: Fanout, codec: str = "vp8") -> Subscription:
    """A viewer without a connection that accepts every frame."""
    subscription = Subscription(codec, lambda frame: True)
    fanout.join(subscription)
    return subscription


def recorded(fanout: Fanout) -> list[Packet]:
    """The list to which a session's packets are added from now on."""
    push, seen = fanout.push, list[Packet]()

    def spy(packet: Packet) -> int:
        seen.append(packet)
        return push(packet)

    fanout.push = spy  # type: ignore[method-assign]
    return seen


@asynccontextmanager
async def gateway(
    clock: Callable[[], float] = time.monotonic, **changes: object
) -> AsyncIterator[tuple[Gateway, list[FakeWorker], list[SessionEvent]]]:
    """A gateway with fake workers; also the list of workers, and all events that its listeners received."""
    workers: list[FakeWorker] = []
    heard: list[SessionEvent] = []
    async with Gateway(
        config(**changes), lambda on_event: FakeWorker(on_event, workers), Metrics(), clock
    ) as gateway:
        gateway.listen(heard.append)
        yield gateway, workers, heard


def applied(session: str, control_id: str, segment: int = 3, frame: int = 24) -> Receipt:
    return Receipt(session, control_id, "applied", segment, frame)


def stats(segment: int = 1, session: str = "main", epoch: int = 0) -> SegmentStats:
    return SegmentStats(session, epoch, segment, 8 * segment, {"total": 5.0}, 10.0, 0, 0, 1000, 0.5)


def packet(frame: int = 0, *, keyframe: bool = False, session: str = "main", codec: str = "vp8") -> Packet:
    return Packet(session, codec, 0, frame // 8, frame, frame * 5625, keyframe, b"\x10" * 40)


def snapshot_file(model: str = "fake", kind: str = "psistream-session-2") -> bytes:
    """A snapshot with a valid header and no usable content."""
    header = json.dumps({"__metadata__": {"format": kind, "model": model}}).encode()
    return len(header).to_bytes(8, "little") + header + b"the rest"
