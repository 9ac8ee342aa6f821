"""Steering over the data channel of a WebRTC connection, as the page does. Received frames are dropped.

It is the fastest channel, and takes one of the server's places for viewers. It needs aiortc."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from clients.errors import ViewError
from clients.steer.transport import Control, Disconnected, Hear, Queue, first_of
from clients.target import Target
from clients.whep import WhepViewer


class DataChannelTransport:
    ask_again_s = 2.0

    def __init__(self, target: Target) -> None:
        self.shown = target.base
        self._target = target
        self._queue = Queue()

    def post(self, control: Control) -> None:
        self._queue.put(control)

    async def converse(self, hear: Hear, connected: Callable[[], None]) -> None:
        viewer = WhepViewer(self._target)
        viewer.on_message = lambda message: self._sort(message, hear)

        async def send(control: Control) -> None:
            viewer.send(control)

        async def end() -> None:
            await viewer.ended.wait()
            raise ViewError(viewer.end_reason)

        try:
            async with viewer:
                await viewer.opened()
                connected()
                await first_of(ViewError, send=self._queue.send_all(send), end=end())
        except ViewError as error:
            raise Disconnected(str(error)) from None

    def _sort(self, message: dict[str, Any], hear: Hear) -> None:
        kinds = {"receipt": "receipt", "session": "state", "segment": "event", "closed": "event"}
        kind = kinds.get(str(message.get("type")))
        if kind is not None:
            hear(kind, json.loads(json.dumps(message)))  # type: ignore[arg-type]
