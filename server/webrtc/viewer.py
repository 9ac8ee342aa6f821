"""One viewer: a peer connection that receives the session's video, and its control channel.

It answers an offer, reports when it is gone, and closes. Other modules decide which session it watches, who
it is and how long it may be silent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from aiortc import (
    RTCBundlePolicy,
    RTCConfiguration,
    RTCDataChannel,
    RTCIceCandidate,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.exceptions import InvalidStateError, OperationError

from engine.errors import InvalidInput
from server.config import MIN_BITRATE_BPS, IceServer
from server.control.base import Steering
from server.control.datachannel import DataChannelControl
from server.webrtc.adapter import bounds
from server.webrtc.adapter.addresses import Gatherer, SourceFilter, ice_connection
from server.webrtc.adapter.endings import end_quietly
from server.webrtc.adapter.negotiation import accept_rsa, one_fingerprint
from server.webrtc.adapter.restart import Credentials, IceRestart
from server.webrtc.adapter.transport import MediaTransport
from server.webrtc.fanout import Fanout
from server.webrtc.media import START_BPS, Condition, MediaStream
from server.webrtc.signalling.answer import MediaSource, extensions, inner_offer, outer_answer, restart_answer
from server.webrtc.signalling.codecs import Sendable
from server.webrtc.signalling.offer import Offer

CHANNEL = "control"
LINK_FIELDS = ("rung", "rungs", "kbps", "loss", "rtt_ms", "queue_ms", "copies", "why")
OVERUSED = "overused"  # code of the message to a viewer that uses too much of the event loop
ENDED = "unauthorized"  # code of the message to a viewer whose token has ended


@dataclass(frozen=True)
class Seat:
    """What a viewer watches and what it may do."""

    session: str
    fanout: Fanout
    steering: Steering
    pts_of: Callable[[int], int | None]  # frame → its media time, if known
    may_steer: bool
    token: str = ""  # the token that the viewer joined with; empty: none
    client: str = ""  # its address; empty: unknown
    allowed: Callable[[], bool] = lambda: True  # whether that token still counts
    rates: Sequence[int] = (MIN_BITRATE_BPS,)  # bitrates of the session's rungs, the highest first
    start_bps: int = START_BPS  # it starts on the best rung that needs no more


class Viewer:
    """Call `answer` once, then `close`, which is idempotent. `on_gone` is called once when the connection
    ends by itself; `on_picture` when the first frame was sent; `on_keyframe` at each request for one."""

    def __init__(
        self,
        viewer_id: str,
        seat: Seat,
        ice_servers: Iterable[IceServer],
        gatherer: Gatherer,
        on_gone: Callable[[Viewer, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.id, self.seat = viewer_id, seat
        self.opened_s = clock()
        self.on_picture: Callable[[], None] = lambda: None
        self.on_keyframe: Callable[[], None] = lambda: None
        self._gatherer, self._on_gone, self._clock = gatherer, on_gone, clock
        servers = [RTCIceServer(s.url, s.username, s.credential) for s in ice_servers]
        self.pc = RTCPeerConnection(
            RTCConfiguration(iceServers=servers, bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
        )
        accept_rsa(self.pc)
        one_fingerprint(self.pc)
        self.media: MediaStream | None = None
        self.offer: Offer | None = None
        self.remote: Credentials | None = None  # of the viewer's ICE session
        self.restarts = 0
        self._ice: IceRestart | None = None
        self._filter: SourceFilter | None = None
        self._control: DataChannelControl | None = None
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

    @property
    def condition(self) -> Condition | None:
        """None until the viewer has sent feedback."""
        if self.media is None or not self.media.link.heard_s:
            return None
        return self.media.condition

    def losses(self) -> tuple[int, int]:
        """Frames that it was too slow for, and datagrams from unknown senders, since the last call."""
        dropped = self.media.subscription.dropped if self.media else 0
        now = (dropped, self._filter.dropped if self._filter else 0)
        frames, datagrams = now[0] - self._told[0], now[1] - self._told[1]
        self._told = now
        return frames, datagrams

    async def answer(self, offer: Offer, codec: Sendable) -> str:
        """The SDP answer. Raises InvalidInput; close the viewer then."""
        inner = inner_offer(offer)
        try:
            await self.pc.setRemoteDescription(RTCSessionDescription(inner, "offer"))
            source = self._equip(offer, codec)
            await self.pc.setLocalDescription(await self.pc.createAnswer())
        except (ValueError, OperationError, InvalidStateError) as error:
            raise InvalidInput(f"the offer can't be answered: {error}", field="sdp") from None
        self.offer, self.remote = offer, Credentials(offer.ufrag, offer.pwd)
        await self.add_candidates(offer.candidates)
        return outer_answer(offer, codec, self.pc.localDescription.sdp, source)

    def _equip(self, offer: Offer, codec: Sendable) -> MediaSource:
        """Between offer and answer: replace aiortc's sender by our own stream."""
        transceiver = self.pc.getTransceivers()[0]
        transceiver.direction = "sendonly"
        transport = MediaTransport(transceiver)
        source = MediaSource(*transport.source, f"psistream {self.seat.session}", f"psistream-{self.id[:8]}")
        self.media = MediaStream(
            self.seat.fanout,
            codec,
            transport.source,
            extensions(offer),
            source.cname,
            self.seat.rates,
            transport,
            self._clock,
            self.seat.start_bps,
        )
        self.media.on_keyframe = lambda: self.on_keyframe()
        self.media.on_picture = self._first_frame_left
        self.media.on_condition = self._send_condition
        transport.install(self.media.open, self.media.close, self.media.heard)
        connection, self._ice = ice_connection(transceiver), IceRestart(transceiver)
        self._gatherer.install(connection)
        end_quietly(self.pc, transceiver)
        bounds.charge_received(transceiver, self._budget)
        bounds.bound_sctp(self.pc, self._budget)
        self._filter = SourceFilter(connection, self._clock)
        self._filter.on_heard = self.media.resume
        self._filter.install()
        return source

    async def add_candidates(self, candidates: Iterable[RTCIceCandidate]) -> None:
        """Candidates beyond the limit, and those with addresses that can't be the viewer's, are ignored."""
        for candidate in candidates:
            if not self._acceptable(candidate):
                continue
            candidate.sdpMid = self.offer.mid if self.offer else None
            await self.pc.addIceCandidate(candidate)

    def _acceptable(self, candidate: RTCIceCandidate) -> bool:
        if not bounds.reachable(candidate.ip, self.seat.client):
            return False
        self._candidates += 1
        return self._candidates <= bounds.MAX_CANDIDATES

    async def restart(self, remote: Credentials, candidates: Iterable[RTCIceCandidate]) -> str:
        """The fragment that answers an ICE restart: the viewer's network changed, or its connection failed.
        DTLS, the video and the control channel continue. Only after `answer`."""
        assert self.offer is not None
        assert self._ice is not None
        if remote != self.remote:  # otherwise the answer was lost
            self.remote, self.restarts, self._candidates = remote, self.restarts + 1, 0
            self._ice.begin(remote)
        await self._ice.add([c for c in candidates if self._acceptable(c)])
        return restart_answer(self.offer, self._ice.local, self._ice.candidates)

    def tell_condition(self) -> None:
        """Send the state of the link, for the page's figures."""
        if self.condition is not None:
            self._send_condition()

    def send_on(self, code: str, text: str) -> bool:
        """Tell the viewer to join again elsewhere; the video goes on. False if it cannot be told."""
        if self._control is not None:
            self._control.send_on(code, text)
        return self._control is not None

    def expel(self) -> None:
        """Tell the viewer that its token has ended, and go. Nothing that it sends counts any more."""
        if self._control is not None:
            self._control.warn(ENDED, "this link has ended: ask for a new one")
            self._control.close()
        self._on_gone(self, ENDED)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self.media is not None:
            self.media.close()
        if self._ice is not None:
            self._ice.close()
        if self._control is not None:
            self._control.close()
        await self.pc.close()

    def _overused(self, why: str) -> None:
        """Tell the viewer why, and close."""
        if self._control is not None:
            self._control.warn(OVERUSED, why)
        self._on_gone(self, OVERUSED)

    # ---- callbacks, on the event loop ----

    def _state_changed(self) -> None:
        if self.pc.connectionState in ("failed", "closed") and not self._closed:
            self._on_gone(self, self.pc.connectionState)

    def _first_frame_left(self) -> None:
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
        if self._control is not None and self.media is not None and self.media.rtp.packets:
            self._control.send_clock(self.media.rtp.origin)

    def _send_condition(self) -> None:
        if self._control is None or self.media is None:
            return
        now = self.media.condition
        values = (
            now.rung,
            now.rungs,
            now.bitrate_bps // 1000,
            round(now.loss, 3),
            None if now.rtt_s is None else round(1000 * now.rtt_s, 1),
            None if now.queue_s is None else round(1000 * now.queue_s, 1),
            now.copies,
            now.why,
        )
        self._control.send_link(dict(zip(LINK_FIELDS, values, strict=True)))
