"""One viewer: a peer connection that gets the session's packets, and its control channel.

It answers an offer, says when it is gone and closes. Which session it watches, who it is and how long it may
be silent is decided elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aiortc import (
    RTCBundlePolicy,
    RTCConfiguration,
    RTCDataChannel,
    RTCIceCandidate,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.exceptions import InvalidStateError, OperationError
from aiortc.stats import RTCRemoteInboundRtpStreamStats

from engine.errors import InvalidInput
from server.config import IceServer
from server.control.base import Steering
from server.control.datachannel import DataChannelControl
from server.webrtc import adapter, bounds
from server.webrtc.fanout import Fanout
from server.webrtc.offer import Offer

CHANNEL = "control"
OVERUSED = "overused"  # code of the message to a viewer that costs too much


@dataclass(frozen=True)
class Seat:
    """What a viewer watches and what it may do."""

    session: str
    fanout: Fanout
    steering: Steering
    pts_of: Callable[[int], int | None]  # frame → its place on the media clock, where that is known
    may_steer: bool
    token: str = ""  # by which the viewer came in; empty: by none
    client: str = ""  # its address; empty: unknown


@dataclass(frozen=True)
class Quality:
    """How the viewer says that it gets the stream."""

    rtt_s: float | None
    loss: float  # share of packets, 0 to 1


class Viewer:
    """`answer` once, then `close`, which is idempotent. `on_gone` is called once when the connection ends by
    itself; `on_picture` when the first frame has left; `on_keyframe` at each request for one."""

    def __init__(
        self,
        viewer_id: str,
        seat: Seat,
        codec: str,
        ice_servers: Iterable[IceServer],
        on_gone: Callable[[Viewer, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.id, self.seat, self.codec = viewer_id, seat, codec
        self.opened_s = clock()
        self.on_picture: Callable[[], None] = lambda: None
        self.on_keyframe: Callable[[], None] = lambda: None
        self._on_gone, self._clock = on_gone, clock
        servers = [RTCIceServer(s.url, s.username, s.credential) for s in ice_servers]
        self.pc = RTCPeerConnection(
            RTCConfiguration(iceServers=servers, bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
        )
        adapter.accept_rsa(self.pc)
        self.track = seat.fanout.track(codec)
        self.mid = self.ufrag = ""  # of the offer
        self._sender: RTCRtpSender | None = None
        self._filter: adapter.SourceFilter | None = None
        self._control: DataChannelControl | None = None
        self._rtp_offset: int | None = None
        self._told = (0, 0)
        self._candidates = 0
        self._budget = bounds.LoopBudget(self._overused, clock)
        self._closed = False
        self.pc.on("connectionstatechange", self._state_changed)
        self.pc.on("datachannel", self._channel_opened)

    @property
    def connected(self) -> bool:
        return self.pc.connectionState == "connected"

    @property
    def heard_s(self) -> float:
        return self._filter.heard_s if self._filter else self.opened_s

    def losses(self) -> tuple[int, int]:
        """Frames that it was too slow for, and datagrams from strangers, since this was last asked."""
        now = (self.track.dropped, self._filter.dropped if self._filter else 0)
        frames, datagrams = now[0] - self._told[0], now[1] - self._told[1]
        self._told = now
        return frames, datagrams

    async def answer(self, offer: Offer) -> str:
        """The SDP answer. Raises InvalidInput; close the viewer then."""
        try:
            await self.pc.setRemoteDescription(RTCSessionDescription(offer.sdp, "offer"))
            self._equip(offer)
            await self.pc.setLocalDescription(await self.pc.createAnswer())
        except (ValueError, OperationError, InvalidStateError) as error:
            raise InvalidInput(f"the offer can't be answered: {error}", field="sdp") from None
        self.mid, self.ufrag = offer.mid, offer.ufrag
        await self.add_candidates(offer.candidates)
        return str(self.pc.localDescription.sdp)

    def _equip(self, offer: Offer) -> None:
        """Between offer and answer: our track on the first video part, nothing on all others."""
        transceiver = adapter.video_transceiver(self.pc)
        if transceiver is None:
            raise InvalidInput("the offer has no video part that receives", field="sdp")
        for other in self.pc.getTransceivers():
            other.direction = "inactive"
        sender = self._sender = transceiver.sender
        transceiver.direction = "sendonly"
        adapter.choose_codec(transceiver, self.codec)
        adapter.low_delay(transceiver, offer.extensions)
        adapter.share_packets(sender)
        adapter.on_keyframe_request(sender, self._keyframe_wanted)
        sender.replaceTrack(self.track)
        self.track.on_sent = self._first_frame_left
        connection = adapter.ice_connection(transceiver)
        adapter.own_addresses(connection)
        bounds.charge_received(transceiver, self._budget)
        bounds.bound_sctp(self.pc, self._budget)
        self._filter = adapter.SourceFilter(connection, self._clock)
        self._filter.install()

    async def add_candidates(self, candidates: Iterable[RTCIceCandidate]) -> None:
        """Those beyond the limit, and those of addresses that can't be the viewer's, are ignored."""
        for candidate in candidates:
            if not bounds.reachable(candidate.ip, self.seat.client):
                continue
            self._candidates += 1
            if self._candidates > bounds.MAX_CANDIDATES:
                return
            candidate.sdpMid = self.mid
            await self.pc.addIceCandidate(candidate)

    async def quality(self) -> Quality | None:
        """From the viewer's latest receiver report, if it sent one."""
        for report in (await self.pc.getStats()).values():
            if isinstance(report, RTCRemoteInboundRtpStreamStats):
                return Quality(report.roundTripTime, report.fractionLost / 256)
        return None

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.seat.fanout.leave(self.track)
        if self._control is not None:
            self._control.close()
        await self.pc.close()

    def _overused(self, why: str) -> None:
        """Tell the viewer why, and go."""
        if self._control is not None:
            self._control.warn(OVERUSED, why)
        self._on_gone(self, OVERUSED)

    # ---- callbacks of aiortc, on the event loop ----

    def _state_changed(self) -> None:
        if self.pc.connectionState in ("failed", "closed") and not self._closed:
            self._on_gone(self, self.pc.connectionState)

    def _keyframe_wanted(self) -> None:
        self.on_keyframe()
        self.seat.fanout.request_keyframe(self.codec)

    def _first_frame_left(self, timestamp: int) -> None:
        if self._sender is not None:
            self._rtp_offset = adapter.rtp_offset(self._sender, timestamp)
        self.on_picture()
        self._send_clock()

    def _channel_opened(self, channel: RTCDataChannel) -> None:
        if channel.label != CHANNEL or self._control is not None or self._closed:
            return
        self._control = DataChannelControl(
            channel,
            self.seat.steering,
            self.seat.session,
            may_steer=self.seat.may_steer,
            pts_of=self.seat.pts_of,
        )
        self._send_clock()

    def _send_clock(self) -> None:
        if self._control is not None and self._rtp_offset is not None:
            self._control.send_clock(self._rtp_offset)
