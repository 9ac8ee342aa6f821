"""One of a viewer's peer connections, with all that ends with it."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

from aiortc import RTCConfiguration, RTCPeerConnection

from clients.adapter.feedback import Feedback, with_feedback
from clients.adapter.receiver import EncodedFrame, allow_loopback, prefer, tap
from clients.timeline import ViewerTimeline


class ViewerConnection:
    """`before` is the timeline that the video goes on from. `on_frame` gets each encoded frame with this
    connection, `on_done` each task that has ended."""

    def __init__(
        self,
        codecs: tuple[str, ...],
        before: ViewerTimeline,
        on_frame: Callable[[ViewerConnection, EncodedFrame], object],
        on_done: Callable[[asyncio.Task[None]], None],
    ) -> None:
        allow_loopback()
        self.timeline = ViewerTimeline(before)
        self._on_done = on_done
        self._tasks: list[asyncio.Task[None]] = []
        self._pings: dict[str, float] = {}
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        transceiver = self.pc.addTransceiver("video", direction="recvonly")
        prefer(transceiver, codecs)
        tap(transceiver.receiver, lambda encoded: on_frame(self, encoded))
        self.start(Feedback(transceiver.receiver).run(), "feedback")
        self.channel = self.pc.createDataChannel("control")

    async def offer(self) -> str:
        await self.pc.setLocalDescription(await self.pc.createOffer())
        return with_feedback(self.pc.localDescription.sdp)

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=f"viewer {name}")
        task.add_done_callback(self._on_done)
        self._tasks.append(task)

    async def ping(self) -> None:
        """Once a second, while the channel is open."""
        while self.channel.readyState == "open":
            id_ = uuid.uuid4().hex[:8]
            self._pings = {id_: time.perf_counter()}
            self.channel.send(json.dumps({"type": "ping", "id": id_}))
            await asyncio.sleep(1.0)

    def round_trip_s(self, id_: str) -> float | None:
        """Since the ping that this pong answers; None if it answers none."""
        sent_s = self._pings.pop(id_, None)
        return None if sent_s is None else time.perf_counter() - sent_s

    async def close(self) -> None:
        """Idempotent."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.pc.close()
