"""All viewers of this server: admits them up to a limit, notices when one is gone, closes those of ended
sessions.

It identifies viewers by their secret ids and knows nothing about HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from engine.errors import Full, UnknownSession
from engine.types import SessionClosed
from server.config import ServerConfig
from server.control.base import SessionEvent, Steering
from server.metrics import Metrics
from server.tasks import Tasks
from server.webrtc.adapter.addresses import Gatherer
from server.webrtc.shares import check_shares
from server.webrtc.signalling.codecs import Sendable
from server.webrtc.signalling.offer import Offer
from server.webrtc.viewer import ENDED, OVERUSED, Seat, Viewer

CHECK_S = 1.0
SUSPEND_S = 3.0  # a viewer that is silent for this long gets no packets until it is heard again
MEASURE_EVERY = 5  # checks
TELL_EVERY = 2  # checks
CONNECT_TIMEOUT_S = 15.0
CONNECTING_S = 3.0  # a viewer that takes longer to connect is closed when all places are taken
MAX_CONNECTING = 8  # viewers of one address that are not connected yet
CLOSE_TIMEOUT_S = 1.0
SEND_ON_S, SEND_ON_CHECK_S = 3.0, 0.05  # how long viewers may take to join elsewhere
FAREWELL_S = 0.3  # for the last message on the data channel
GRAVES = 512


class Viewers:
    """`async with Viewers(…)`. A closed viewer is remembered for a while, so leaving twice is not an error.
    `new_id` makes a viewer's id of a random text."""

    def __init__(
        self,
        config: ServerConfig,
        steering: Steering,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        new_id: Callable[[str], str] = str,
    ) -> None:
        self._config, self._metrics, self._clock, self._new_id = config, metrics, clock, new_id
        self._viewers: dict[str, Viewer] = {}
        self._graves: OrderedDict[str, None] = OrderedDict()
        self._leaving: set[str] = set()
        self._gatherer = Gatherer(
            config.media_addresses, config.udp_ports, config.public_addresses, clock=clock
        )
        self._tasks, self._closings = Tasks(), Tasks()
        self._stop_listening = steering.listen(self._heard)

    def __len__(self) -> int:
        return len(self._viewers)

    def __iter__(self) -> Iterator[Viewer]:
        return iter(list(self._viewers.values()))

    async def __aenter__(self) -> Self:
        self._tasks.spawn(self._watch(), "watch-viewers")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_listening()
        for viewer in self:
            self._gone(viewer, "server-stops")
        await self._closings.drain(CLOSE_TIMEOUT_S)  # cancelling aiortc's close breaks it
        await self._closings.close()
        await self._tasks.close()

    async def open(self, seat: Seat, offer: Offer, codec: Sendable) -> tuple[Viewer, str]:
        """The viewer and the SDP answer. Raises Full, OverShare, InvalidInput."""
        try:
            check_shares([v.seat for v in self._viewers.values()], seat, self._config.max_viewers)
        except Full:
            if not await self._displace(seat):
                self._metrics.refused.labels("viewers").inc()
                raise
        mine = [v for v in self._viewers.values() if not v.connected and v.seat.client == seat.client]
        if len(mine) >= MAX_CONNECTING:  # offers that are never completed must not fill all places
            await self.close(min(mine, key=lambda v: v.opened_s).id)
        viewer = Viewer(
            self._new_id(secrets.token_urlsafe(18)),
            seat,
            self._config.ice_servers,
            self._gatherer,
            self._gone,
            self._clock,
        )
        viewer.on_picture = lambda: self._metrics.first_frame_s.observe(self._clock() - viewer.opened_s)
        viewer.on_keyframe = self._metrics.plis.inc
        self._viewers[viewer.id] = viewer
        self._count()
        try:
            answer = await viewer.answer(offer, codec)
        except BaseException:
            await self.close(viewer.id)
            raise
        return viewer, answer

    async def send_on(self, code: str, text: str) -> None:
        """Have all viewers join again elsewhere, and show them the video until they have. Returns when they
        have left, or after SEND_ON_S."""
        told = [viewer.id for viewer in self if viewer.connected and viewer.send_on(code, text)]
        until_s = self._clock() + SEND_ON_S
        while any(viewer in self._viewers for viewer in told) and self._clock() < until_s:  # noqa: ASYNC110
            await asyncio.sleep(SEND_ON_CHECK_S)

    async def _displace(self, seat: Seat) -> bool:
        """Close a viewer that has not connected for a while, to make room for this one. False if there is
        none."""
        now_s = self._clock()
        for viewer in sorted(self._viewers.values(), key=lambda v: v.opened_s):
            if not viewer.connected and now_s - viewer.opened_s > CONNECTING_S:
                await self.close(viewer.id)
                with contextlib.suppress(Full):
                    check_shares([v.seat for v in self._viewers.values()], seat, self._config.max_viewers)
                    return True
        return False

    def get(self, viewer_id: str, session: str) -> Viewer:
        """Raises UnknownSession."""
        viewer = self._viewers.get(viewer_id)
        if viewer is None or viewer.seat.session != session:
            raise UnknownSession("no viewer has this address; it may have ended")
        return viewer

    def was_here(self, viewer_id: str) -> bool:
        return viewer_id in self._graves

    async def close(self, viewer_id: str) -> None:
        """Idempotent."""
        viewer = self._viewers.pop(viewer_id, None)
        if viewer is None:
            return
        self._leaving.discard(viewer_id)
        self._graves[viewer_id] = None
        if len(self._graves) > GRAVES:
            self._graves.popitem(last=False)
        self._account(viewer)
        self._count()
        await viewer.close()

    def _gone(self, viewer: Viewer, why: str) -> None:
        told = why in (OVERUSED, ENDED)
        closing = self._close_later(viewer.id) if told else self.close(viewer.id)
        self._closings.spawn(closing, f"close-viewer-{why}")

    def _heard(self, event: SessionEvent) -> None:
        if not isinstance(event, SessionClosed):
            return
        for viewer in self:
            if viewer.seat.session == event.session:
                self._leaving.add(viewer.id)
                self._closings.spawn(self._close_later(viewer.id), "close-viewer-session-ended")

    async def _close_later(self, viewer_id: str) -> None:
        await asyncio.sleep(FAREWELL_S)
        await self.close(viewer_id)

    async def _watch(self) -> None:
        """aiortc takes 30 s to notice that a viewer is gone, but a browser sends something every second."""
        checks = 0
        while True:
            await asyncio.sleep(CHECK_S)
            checks += 1
            now_s = self._clock()
            for viewer in self:
                self._account(viewer)
                if self._lost(viewer, now_s):
                    self._gone(viewer, "silent")
                    continue
                if not viewer.seat.allowed():
                    viewer.expel()
                    continue
                if viewer.connected and viewer.media is not None and now_s - viewer.heard_s > SUSPEND_S:
                    viewer.media.suspend()
                if checks % MEASURE_EVERY == 0:
                    self._measure(viewer)
                if checks % TELL_EVERY == 0:
                    viewer.tell_condition()
            self._count()

    def _lost(self, viewer: Viewer, now_s: float) -> bool:
        # it joined while its session was ending
        if viewer.seat.fanout.closed and viewer.id not in self._leaving:
            return True
        if viewer.connected:
            return now_s - viewer.heard_s > self._config.viewer_timeout_s
        return now_s - viewer.opened_s > CONNECT_TIMEOUT_S

    def _measure(self, viewer: Viewer) -> None:
        if (condition := viewer.condition) is not None:
            self._metrics.loss.observe(condition.loss)
            if condition.rtt_s is not None:
                self._metrics.rtt_s.observe(condition.rtt_s)

    def _account(self, viewer: Viewer) -> None:
        frames, datagrams = viewer.losses()
        self._metrics.dropped.labels("slow_viewer").inc(frames)
        self._metrics.stray.inc(datagrams)

    def _count(self) -> None:
        connected = sum(viewer.connected for viewer in self)
        self._metrics.viewers.labels("connected").set(connected)
        self._metrics.viewers.labels("connecting").set(len(self._viewers) - connected)
