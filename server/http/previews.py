"""Pictures of session `main` for Home Assistant, over MQTT.

With viewers, a picture is taken every few seconds. Without viewers, only after the session was steered: it
then plays for a moment, so that the control takes effect and can be seen.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from server.control.mqtt.bridge import MqttBridge
from server.gateway.registry import Sessions
from server.gateway.session import MAIN, GatewaySession
from server.recording.picture import Visit

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
WATCHED_EVERY_S = 5.0
PICTURES_S = (1.5, 6.0)  # of a visit: when what was asked for begins to show, and when it is there
WITHIN_S = 15.0


class Previews:
    def __init__(
        self, sessions: Sessions, mqtt: MqttBridge, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sessions, self._mqtt, self._clock = sessions, mqtt, clock
        self._session: GatewaySession | None = None  # of the latest picture
        self._due_s = 0.0

    async def run(self) -> None:
        while True:
            session = self._sessions.get(MAIN)
            if session is not None and self._mqtt.status.state == "connected":
                try:
                    await self._look(session)
                except Exception:  # outermost: a picture that cannot be made must not end the rest
                    log.exception("session %s: no picture for MQTT", session.id)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look(self, session: GatewaySession) -> None:
        if session.fanout.count:
            if self._clock() >= self._due_s:
                self._due_s = self._clock() + WATCHED_EVERY_S
                with Visit(session.fanout) as visit:
                    await self._show(session, visit)
        elif not session.info.paused and (session is not self._session or session.received_s):
            with Visit(session.fanout) as visit:
                for wait_s in PICTURES_S:
                    await asyncio.sleep(wait_s)
                    await self._show(session, visit)

    async def _show(self, session: GatewaySession, visit: Visit) -> None:
        picture = await visit.picture(WITHIN_S)
        if picture is not None:
            self._session = session
            self._mqtt.put_picture(session.id, picture)
