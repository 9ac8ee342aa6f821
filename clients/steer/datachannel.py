"""Steering over the data channel of a WebRTC connection, as the page does. Pictures that come are dropped.

It is the fastest way in, and costs the server a viewer. It needs aiortc."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from clients.errors import ViewError
from clients.steer.errors import SteerError
from clients.steer.transport import RETRY_S, Control, Hear, Online, Queue, first_of
from clients.target import Target
from clients.whep import WhepViewer


class DataChannelTransport:
    ask_again_s = 2.0

    def __init__(self, target: Target) -> None:
        self.shown = target.base
        self._target = target
        self._queue = Queue()
        self._there = False

    def post(self, control: Control) -> None:
        self._queue.put(control)

    async def run(self, hear: Hear, online: Online) -> None:
        while True:
            viewer = WhepViewer(self._target)
            viewer.on_message = lambda message: self._sort(message, hear)
            try:
                async with viewer:
                    await viewer.opened()
                    self._there = True
                    online(True)
                    await first_of(
                        asyncio.create_task(self._send_all(viewer)),
                        asyncio.create_task(_until_ended(viewer)),
                    )
            except ViewError as error:
                if not self._there:
                    raise SteerError(str(error)) from None
            online(False)
            await asyncio.sleep(RETRY_S)

    async def _send_all(self, viewer: WhepViewer) -> None:
        while True:
            control = await self._queue.get()
            try:
                viewer.send(control)
            except ViewError:
                self._queue.put_back(control)
                raise

    def _sort(self, message: dict[str, Any], hear: Hear) -> None:
        kinds = {"receipt": "receipt", "session": "state", "segment": "event", "closed": "event"}
        kind = kinds.get(str(message.get("type")))
        if kind is not None:
            hear(kind, json.loads(json.dumps(message)))  # type: ignore[arg-type]


async def _until_ended(viewer: WhepViewer) -> None:
    await viewer.ended.wait()
    raise ViewError(viewer.end_reason)
