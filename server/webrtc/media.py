"""One viewer's video: RTP out, RTCP in, and the rung that its link can carry.

It connects the packet stream, the measurement of the link and the rate policy, and sends through a given
transport. The fan-out decides which session it shows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from server.webrtc.fanout import Fanout, Subscription
from server.webrtc.rtp import rtcp
from server.webrtc.rtp.link import Link
from server.webrtc.rtp.packetize import PACKET_MAX, Payloads
from server.webrtc.rtp.rate import RateControl
from server.webrtc.rtp.stream import Extensions, RtpStream
from server.webrtc.signalling.codecs import Sendable
from server.worker.contexts import CLOCK_RATE

REPORT_S = 1.0
RTX_SHARE, RTX_LEAST_BPS, RTX_BURST_S = 0.5, 100_000, 0.5
LOSSY = 0.03  # from this loss on, repairs are sent twice
COPY_EVERY_S = 0.012  # a copy sent together with its original would be lost together with it
BACKLOG_MAX = 256  # packets
PROBE_FRAME_S = 0.25  # a longer pause counts as this when probing
START_BPS = 1_500_000  # a viewer whose link is not known yet starts on a rung below this rate


class PacketTransport(Protocol):
    def send_rtp(self, packet: bytes) -> None: ...
    def flush(self) -> None: ...
    def send_rtcp(self, packet: bytes) -> None: ...
    @property
    def congested(self) -> bool: ...


@dataclass(frozen=True)
class Condition:
    """How one viewer is served at this moment."""

    rung: int
    rungs: int
    bitrate_bps: int
    loss: float  # share of packets, 0 to 1
    rtt_s: float | None
    queue_s: float | None
    copies: int  # additional copies of each packet, against loss
    why: str  # reason of the latest change: start, queue, loss, remb, free


class MediaStream:
    """Call `open` when the connection is up and `close` when it ends. `on_keyframe` is called for each
    request, `on_picture` once when the first frame was sent, `on_condition` at each change of rung."""

    def __init__(
        self,
        fanout: Fanout,
        codec: Sendable,
        ssrcs: tuple[int, int],
        extensions: Extensions,
        cname: str,
        rates: Sequence[int],
        transport: PacketTransport,
        clock: Callable[[], float] = time.monotonic,
        start_bps: int = START_BPS,
    ) -> None:
        self._fanout, self._transport, self._clock, self._cname = fanout, transport, clock, cname
        loop = asyncio.get_running_loop()
        self.rtp = RtpStream(
            int(codec.format),
            int(codec.rtx) if codec.rtx else None,
            *ssrcs,
            extensions,
            transport.send_rtp,
            clock,
            loop.call_later,
        )
        self.link = Link()
        self.rtp.on_sent, self.rtp.on_burst = self.link.sent, transport.flush
        first = next((i for i, rate in enumerate(rates) if rate <= start_bps), len(rates) - 1)
        self.control = RateControl(rates, rung=first)
        self.subscription = Subscription(codec.codec, self._deliver, first)
        self.on_keyframe: Callable[[], None] = lambda: None
        self.on_picture: Callable[[], None] = lambda: None
        self.on_condition: Callable[[], None] = lambda: None
        self._reports: dict[int, float] = {}  # middle NTP bits of our reports → when they were sent
        self._shown_90k = 0  # of the latest frame
        self._rtx_credit = 0.0
        self._rtx_s = clock()
        self._repeated: dict[int, float] = {}  # number → when it was resent
        self._timer: asyncio.TimerHandle | None = None
        self.closed = self.suspended = False

    @property
    def condition(self) -> Condition:
        control, link = self.control, self.link
        return Condition(
            control.rung,
            len(control.rates),
            control.rates[control.rung],
            link.loss,
            link.rtt_s,
            link.queue_s,
            control.copies,
            control.why,
        )

    def open(self) -> None:
        if self.closed or not self._fanout.join(self.subscription):
            return
        self._report()

    def suspend(self) -> None:
        """The viewer is silent: packets would be lost, and it does not count as a viewer. Idempotent."""
        if not self.suspended and not self.closed:
            self.suspended = True
            self._fanout.leave(self.subscription)
            self.rtp.drop_waiting()

    def resume(self) -> None:
        """The viewer is heard again and continues at a keyframe. Idempotent."""
        if self.suspended and not self.closed:
            self.suspended = False
            self.subscription.waiting = True
            self._fanout.join(self.subscription)

    def close(self) -> None:
        """Idempotent."""
        if self.closed:
            return
        self.closed = True
        self._fanout.leave(self.subscription)
        if self.subscription.sent:
            self._transport.send_rtcp(rtcp.bye(self.rtp.ssrc))
        self.rtp.close()
        if self._timer is not None:
            self._timer.cancel()

    # ---- out ----

    def _deliver(self, frame: Payloads) -> bool:
        if self.closed:
            return True
        if self._transport.congested or self.rtp.backlog > BACKLOG_MAX:
            self.rtp.drop_waiting()
            return False
        self.rtp.send(frame)
        now_s = self._clock()
        size = sum(map(len, frame.payloads))
        self.link.sized(size, now_s)
        if self.subscription.sent == 0:
            self.on_picture()
        if self.control.copies:
            numbers = self.rtp.latest(len(frame.payloads))
            for i in range(self.control.copies):
                asyncio.get_running_loop().call_later(COPY_EVERY_S * (i + 1), self._copy, numbers)
        elif self.control.probe_bps:
            self._probe(size, (frame.timestamp - self._shown_90k) / CLOCK_RATE)
        self._shown_90k = frame.timestamp
        return True

    def _copy(self, numbers: list[int]) -> None:
        """Send packets again, so that a lost one needs no round trip. A request for one of them is answered
        all the same: if the copies are lost too, the viewer asks again only after another round trip."""
        for number in reversed(numbers):
            self.link.sized(self.rtp.repeat(number), self._clock())
        self._transport.flush()

    def _probe(self, size: int, since_s: float) -> None:
        """Fill up to the probed rate with retransmissions that the viewer drops. `since_s` is the time
        between frames: a still picture that needs less than its rung's rate does not make the probe
        smaller."""
        lacking = self.control.probe_bps / 8 * min(max(since_s, 0.0), PROBE_FRAME_S) - size
        if lacking <= 0:
            return
        for number in self.rtp.latest(int(lacking / PACKET_MAX) + 1):
            lacking -= (sent := self.rtp.repeat(number))
            self.link.sized(sent, self._clock())
            if lacking <= 0:
                break
        self._transport.flush()

    def _report(self) -> None:
        if self.closed:
            return
        self._timer = asyncio.get_running_loop().call_later(REPORT_S, self._report)
        if self.rtp.packets:
            now_s = self._clock()
            shown = self.rtp.timestamp + int(90_000 * (now_s - self.rtp.sent_s)) & 0xFFFFFFFF
            packet, mark = rtcp.sender_report(
                self.rtp.ssrc, time.time(), shown, self.rtp.packets, self.rtp.octets, self._cname
            )
            self._reports[mark] = now_s
            if len(self._reports) > 8:
                self._reports.pop(next(iter(self._reports)))
            self._transport.send_rtcp(packet)

    # ---- in ----

    def heard(self, data: bytes) -> None:
        """Process an RTCP packet."""
        if self.closed:
            return
        heard, now_s = rtcp.read(data, self.rtp.ssrc), self._clock()
        if heard.keyframe:
            self.on_keyframe()
            self._fanout.request_keyframe(self.subscription)
        rtt_s = None
        for report in heard.reports:
            if (sent_s := self._reports.get(report.last_report)) is not None:
                rtt_s = max(0.0, now_s - sent_s - report.delay_s)
        if heard.lost:
            self._repair(heard.lost, now_s)
        if heard.arrivals or heard.reports or heard.remb_bps is not None:
            self.link.heard(heard, rtt_s, now_s)
            self._steer(now_s)

    def _repair(self, lost: list[int], now_s: float) -> None:
        """Resend lost packets within a budget, since a congested link that is filled with retransmissions
        never recovers. Packets resent within the last round trip are still in flight."""
        rate = max(RTX_LEAST_BPS, RTX_SHARE * self.control.rates[self.control.rung])
        credit = self._rtx_credit + rate / 8 * (now_s - self._rtx_s)
        self._rtx_credit, self._rtx_s = min(credit, rate / 8 * RTX_BURST_S), now_s
        again_s = now_s - max(0.02, 0.9 * (self.link.rtt_s or 0.05))
        resent: list[int] = []
        for number in lost:
            if self._rtx_credit <= 0:
                break
            if self._repeated.get(number, float("-inf")) > again_s:
                continue
            if size := self.rtp.repeat(number):
                self._repeated[number] = now_s
                self._rtx_credit -= size
                self.link.sized(size, now_s)
                resent.append(number)
        self._transport.flush()
        if resent and self.link.loss > LOSSY and self._rtx_credit > 0:
            # a repair that is lost as well costs another round trip, and the viewer sees that
            self._rtx_credit -= len(resent) * PACKET_MAX
            asyncio.get_running_loop().call_later(COPY_EVERY_S, self._copy, resent)
        while len(self._repeated) > 512:
            self._repeated.pop(next(iter(self._repeated)))

    def _steer(self, now_s: float) -> None:
        before, copies = self.control.rung, self.control.copies
        self.control.update(self.link, self.link.sent_bps(), now_s)
        if not self.rtp.can_repeat:
            self.control.without_probe(self.link, now_s)
        rung = self.control.rung
        if rung != before:
            if rung > before:
                self.rtp.drop_waiting()
            self._fanout.move(self.subscription, rung, at_once=rung > before)
        if (rung, self.control.copies) != (before, copies):
            self.on_condition()
