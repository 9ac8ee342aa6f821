"""A WHEP viewer without a browser: receives one session's frames, receipts and figures, and sends controls.

Speaks only the wire protocol; `view` and the benchmarks are built on it. Once there was a picture, it joins
again by itself when the link was away. All callbacks run on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import av
from aiortc import RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

from clients.adapter.receiver import DECODE_NOT, EncodedFrame, Picture
from clients.connection import ViewerConnection
from clients.errors import ViewError, ViewRefused
from clients.pace import stalled
from clients.reach import reachable
from clients.signalling import MOVED, leave, payload_names, post_offer, vanished
from clients.target import Target
from clients.timeline import ViewerTimeline

HTTP_TIMEOUT_S = 15.0
CODECS = ("H264", "VP8")
LOST_S = 3.0  # without a word from the server, which answers a ping a second
DOUBT_S = 1.2  # then it is asked whether this viewer is still there
PATIENT_S, PAUSE_S, GIVE_UP_S = 5.0, 0.25, 60.0  # of an attempt to join again, between two, of all


def _ignore(*_: Any) -> None: ...


class WhepViewer:
    """Use as `async with Viewer(target) as viewer`. Set the callbacks before entering."""

    def __init__(self, target: Target, *, codecs: tuple[str, ...] = CODECS) -> None:
        self.target = target
        self.codecs = codecs
        self.on_picture: Callable[[Picture], None] = _ignore
        self.on_encoded: Callable[[str, EncodedFrame], object] = _ignore  # codec name, frame
        self.on_message: Callable[[dict[str, Any]], None] = _ignore
        self.started_s = 0.0
        self.first_picture_s: float | None = None
        self.rtt_s: float | None = None
        self.stalled = False  # the server has said why there is no new picture
        self.heard_s = 0.0  # when the server last sent anything; it answers one ping per second
        self.ended = asyncio.Event()
        self.end_reason = ""
        self._timeline = ViewerTimeline()  # of the connection that is shown
        self._broken = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._first = asyncio.Event()
        self._opened = asyncio.Event()
        self._names: dict[int, str] = {}
        self._kbps: int | None = None  # of the rung that the server showed last
        self._resource: str | None = None
        self._fault: BaseException | None = None  # a bug in a task or in one of its callbacks
        self._now: ViewerConnection | None = None
        self._former: ViewerConnection | None = None  # shows its video until the next one does
        self._moved = False  # the gateway has told to join another one, and goes on until then
        self._switched = asyncio.Event()

    async def __aenter__(self) -> Self:
        try:
            await self._connect(HTTP_TIMEOUT_S)
        except BaseException:
            await self.close()
            raise
        self._watching = asyncio.create_task(self._watch(), name="viewer watch")
        self._watching.add_done_callback(self._finished)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave the session and free everything. Idempotent. Raises the error of a task or callback."""
        if self._watching is not None:
            watching, self._watching = self._watching, None
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        await self._drop_former()
        await self._drop()
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise fault

    async def _drop(self) -> None:
        if self._resource is not None:
            resource, self._resource = self._resource, None
            await leave(self.target, resource)
        if self._now is not None:
            now, self._now = self._now, None
            await now.close()

    async def _drop_former(self) -> None:
        if self._former is not None:
            former, self._former = self._former, None
            await former.close()

    # ---- out ----

    async def ready(self, timeout_s: float = 10.0) -> None:
        """Wait for the first picture and the control channel. The timeout does not count while the server
        says that the session is paused or stalled. Raises ViewError."""
        for event, what in ((self._first, "no frame arrived"), (self._opened, "no control channel opened")):
            while not await self._wait(event, timeout_s):
                silent = time.perf_counter() - self.heard_s > timeout_s
                if event is not self._first or not self.stalled or silent:
                    name = self.target.session
                    raise ViewError(f"connected to session {name!r}, but {what} in {timeout_s:g} s")

    async def opened(self, timeout_s: float = 10.0) -> None:
        """Wait for the control channel only. Raises ViewError."""
        if not await self._wait(self._opened, timeout_s):
            raise ViewError(f"no control channel to {self.target.session!r} opened in {timeout_s:g} s")

    def send(self, control: dict[str, Any]) -> str:
        """Send a control over the data channel and return its id. Raises ViewError if that is closed."""
        if self._now is None or self._now.channel.readyState != "open":
            raise ViewError("the control channel is not open")
        id_ = str(control.get("id") or f"py-{uuid.uuid4().hex[:12]}")
        self._now.channel.send(json.dumps({**control, "id": id_}))
        return id_

    def shows(self, picture: Picture, pts_90k: int) -> bool:
        """Whether this picture is the frame at `pts_90k`, or a later one."""
        return self._timeline.reached(picture.rtp_timestamp, pts_90k)

    @property
    def rtp_offset(self) -> int | None:
        """A frame's RTP timestamp is this plus its pts_90k. None until the server has told."""
        return self._timeline.media_zero

    # ---- joining again ----

    async def _watch(self) -> None:
        while not self.ended.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._broken.wait(), PAUSE_S)
            was_live = self._opened.is_set() and self._first.is_set()
            if self._broken.is_set() or (was_live and (self._silent(LOST_S) or await self._vanished())):
                await self._join_again()

    def _silent(self, for_s: float) -> bool:
        return time.perf_counter() - self.heard_s > for_s

    async def _vanished(self) -> bool:
        """Whether the gateway is gone, as another one says that the load balancer asks."""
        if self._resource is None or not self._silent(DOUBT_S):
            return False
        return await vanished(self.target, self._resource) and self._silent(DOUBT_S)

    async def _join_again(self) -> None:
        until_s = time.perf_counter() + GIVE_UP_S
        left = self._resource
        if self._moved:
            self._former, self._now, self._moved = self._now, None, False
        while time.perf_counter() < until_s and not self.ended.is_set():
            self._resource = None  # it cannot be reached now; left below
            await self._drop()
            self._broken.clear()
            self._opened.clear()
            self._switched.clear()
            await reachable(self.target.base, PATIENT_S)  # where it can't be told, as behind a proxy, try
            try:
                await self._connect(PATIENT_S)
                await asyncio.wait_for(self._opened.wait(), PATIENT_S)
            except ViewRefused as error:
                self._end(str(error))
            except (ViewError, TimeoutError):
                await asyncio.sleep(PAUSE_S)
            else:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._switched.wait(), PATIENT_S if self._former else 0)
                await self._drop_former()
                if left is not None:
                    await leave(self.target, left)
                return
        self._end(f"the connection was lost, and {self.target.base} did not answer for {GIVE_UP_S:g} s")

    def _lose(self, connection: ViewerConnection | None, reason: str) -> None:
        """This connection is over: join again where there was a picture, else end."""
        if connection is None or connection is not self._now:
            return
        if self._first.is_set():
            self._broken.set()
        else:
            self._end(reason)

    # ---- in ----

    def _finished(self, task: asyncio.Task[None]) -> None:
        """A task that fails ends the viewer; `close` raises its error."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fault = error
            self._end(f"{task.get_name()} failed: {error!r}")

    async def _wait(self, event: asyncio.Event, timeout_s: float) -> bool:
        waits = [asyncio.create_task(e.wait(), name="wait") for e in (event, self.ended)]
        try:
            await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
        if self.ended.is_set():
            raise ViewError(self.end_reason)
        return event.is_set()

    async def _connect(self, timeout_s: float) -> None:
        self.started_s = self.started_s or time.perf_counter()
        now = self._now = ViewerConnection(self.codecs, self._timeline, self._take, self._finished)
        pc, channel = now.pc, now.channel
        channel.on("open", lambda: self._open(now))
        channel.on("message", lambda raw: self.hear(raw) if now is self._now else None)
        channel.on("close", lambda: self._lose(now, "the server closed the connection"))
        pc.on("connectionstatechange", lambda: self._state(now))
        pc.on("track", lambda track: now.start(self._play(now, track), "play"))
        offer = await now.offer()
        answer, self._resource = await post_offer(self.target, offer, timeout_s, self._kbps)
        self._names |= payload_names(answer)
        await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    def _take(self, connection: ViewerConnection, encoded: EncodedFrame) -> object:
        """A frame. Those of the former connection are shown until the next one brings its first."""
        if connection is self._now:
            self._timeline = connection.timeline
            self._switched.set()
        elif connection.timeline is not self._timeline:
            return DECODE_NOT
        return self._encoded(encoded)

    def _encoded(self, encoded: EncodedFrame) -> object:
        self.heard_s = now_s = time.perf_counter()
        encoded = replace(encoded, rtp_timestamp=self._timeline.place(encoded.rtp_timestamp, now_s))
        return self.on_encoded(self._names.get(encoded.payload_type, "?"), encoded)

    async def _play(self, connection: ViewerConnection, track: MediaStreamTrack) -> None:
        try:
            while True:
                frame = await track.recv()
                now_s = time.perf_counter()
                if not isinstance(frame, av.VideoFrame):
                    continue
                if self.first_picture_s is None:
                    self.first_picture_s = now_s
                    self._first.set()
                if connection.timeline is self._timeline:
                    self.on_picture(Picture(frame, self._timeline.decoded(frame.pts or 0), now_s))
        except MediaStreamError:
            self._lose(connection, "the video ended")

    def _open(self, connection: ViewerConnection) -> None:
        if connection is self._now:
            self._opened.set()
            connection.start(connection.ping(), "ping")

    def hear(self, raw: str | bytes) -> None:
        """Take a message of the data channel."""
        message = None
        with contextlib.suppress(ValueError):
            message = json.loads(raw)
        if not isinstance(message, dict):
            return
        self.heard_s = time.perf_counter()
        kind = message.get("type")
        if kind == "pong" and self._now is not None:
            self.rtt_s = self._now.round_trip_s(str(message.get("id"))) or self.rtt_s
        elif kind == "clock" and self._now is not None:
            self._now.timeline.offset = o if isinstance(o := message.get("rtp_offset"), int) else None
        elif kind == "link":
            self._kbps = kbps if isinstance(kbps := message.get("kbps"), int) and kbps > 0 else None
        elif kind == "session":
            self.stalled = stalled(message)
        elif kind == "closed" and message.get("code") in MOVED and self._now is not None:
            self._moved = message["code"] == "moved"
            self._lose(self._now, "another gateway has the session")
        elif kind == "closed":
            self._end(f"the session ended: {message.get('message') or message.get('code')}")
        self.on_message(message)

    def _state(self, connection: ViewerConnection) -> None:
        if connection.pc.connectionState in ("failed", "closed"):
            self._lose(connection, "the connection was lost")

    def _end(self, reason: str) -> None:
        if not self.ended.is_set():
            self.end_reason = reason
            self.ended.set()
