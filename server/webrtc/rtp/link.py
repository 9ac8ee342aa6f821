"""Measures one viewer's link: queueing delay, throughput, loss, round trip.

It makes no decisions. TWCC gives each packet's arrival; without TWCC there are the round trip, the loss and
the REMB that a receiver reports once a second. It has no clock: the time is passed to every call.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from server.webrtc.rtp.rtcp import TICK_S, Heard

WINDOW_S = 0.5  # window of the throughput
LOSS_WINDOW_S, LOSS_LEAST = 3.0, 20  # the loss of fewer packets is not significant
STANDING_S = 0.2  # the minimum delay within this time is a standing queue
BASE_S = 30.0  # the minimum delay of two such spans is that of an empty queue
UNACKNOWLEDGED = 2048
LATE_S, TRAIN = 0.1, 5  # packets that waited for so long, and how many in a row tell how fast a queue leaves
REPORT_DOUBT = 0.1  # by how much the loss in a single report may be off by chance
REPORT_S = 1.0  # covered by the loss in a receiver's report
REMB_S = 2.5  # a REMB is valid for this long


@dataclass
class Link:
    """`queue_s` is the standing queue, `acked_bps` the rate that arrives, `sent_bps` the rate that is sent;
    None while unknown. `burst_bps` is the highest rate at which packets that had waited arrived, within the
    last WINDOW_S: the link's own rate if they waited for that, and far more if everything stood still."""

    precise: bool = False  # TWCC is received
    rtt_s: float | None = None
    queue_s: float | None = None
    acked_bps: float | None = None
    remb_bps: int | None = None
    loss: float = 0.0
    sure_loss: float = 0.0  # at least this loss, whatever the number of packets
    heard_s: float = 0.0  # of the latest feedback
    burst_bps: float = 0.0

    def __post_init__(self) -> None:
        self._sent_bytes = self._acked_bytes = self._lost = self._arrived_count = 0  # sums of the windows
        self._pending: dict[int, tuple[float, int]] = {}
        self._sent: deque[tuple[float, int]] = deque()
        self._first_s = self._latest_s = 0.0
        self._acked: deque[tuple[float, int]] = deque()  # on the receiver's clock
        self._fates: deque[tuple[float, int, int]] = deque()  # time of the report, packets lost and arrived
        self._delays: deque[tuple[float, float]] = deque()
        self._base = _Least(BASE_S)
        self._train: deque[tuple[float, int]] = deque(maxlen=TRAIN)  # the latest packets, if all were late
        self._bursts: deque[tuple[float, float]] = deque()
        self._base_rtt = _Least(BASE_S)
        self._remb_s = 0.0
        self._reported: deque[float] = deque(maxlen=3)
        self._loss_from_s = float("-inf")

    def sent(self, number: int, size: int, now_s: float) -> None:
        """A packet with this transport-wide number was sent."""
        if len(self._pending) >= UNACKNOWLEDGED:
            self._pending.pop(next(iter(self._pending)))
        self._pending[number] = (now_s, size)

    def sized(self, size: int, now_s: float) -> None:
        """A packet was sent, numbered or not."""
        if not self._sent:
            self._first_s = now_s
        self._latest_s = now_s
        self._sent.append((now_s, size))
        self._sent_bytes += size
        while now_s - self._sent[0][0] > WINDOW_S:
            self._sent_bytes -= self._sent.popleft()[1]

    def sent_bps(self) -> float:
        return 8 * self._sent_bytes / max(0.1, min(WINDOW_S, self._latest_s - self._first_s))

    def heard(self, heard: Heard, rtt_s: float | None, now_s: float) -> None:
        """Process feedback; `rtt_s` is the measured round trip, if it answers one of our reports."""
        if heard.arrivals:
            self._arrived(heard.arrivals, now_s)
        for report in heard.reports:
            self.heard_s = now_s
            if rtt_s is not None:
                self.rtt_s = rtt_s if self.rtt_s is None else 0.7 * self.rtt_s + 0.3 * rtt_s
                if not self.precise:
                    self.queue_s = max(0.0, rtt_s - self._base_rtt.add(rtt_s, now_s))
            if not self.precise and now_s - self._loss_from_s > REPORT_S:
                self._reported.append(report.lost)
                self.loss = sum(self._reported) / len(self._reported)
                self.sure_loss = self.loss - REPORT_DOUBT / len(self._reported)
        if heard.remb_bps is not None:
            self.remb_bps, self._remb_s = heard.remb_bps, now_s
        elif now_s - self._remb_s > REMB_S:
            self.remb_bps = None

    def forget_loss(self, now_s: float) -> None:
        """The rate or copies change: count loss from here on."""
        self._loss_from_s, self.loss, self.sure_loss = now_s, 0.0, 0.0
        self._reported.clear()
        self._forget_fates()

    def _forget_fates(self) -> None:
        self._fates.clear()
        self._lost = self._arrived_count = 0

    def _arrived(self, arrivals: list[tuple[int, float | None]], now_s: float) -> None:
        # the link was down, and packets sent meanwhile were lost
        if self.precise and now_s - self.heard_s > 1.0:
            self._forget_fates()
            self._delays.clear()
            self._acked.clear()
            self._acked_bytes = 0
        self.precise, self.heard_s = True, now_s
        lost = arrived = 0
        for number, at_s in arrivals:
            left = self._pending.get(number)
            if left is None:
                continue
            counts = left[0] >= self._loss_from_s
            if at_s is None:
                lost += counts
                continue
            del self._pending[number]
            arrived += counts
            self._delays.append((now_s, at_s - left[0]))
            self._acked.append((at_s, left[1]))
            self._acked_bytes += left[1]
            self._follow(at_s, left[1], at_s - left[0], now_s)
        self._fates.append((now_s, lost, arrived))
        self._lost, self._arrived_count = self._lost + lost, self._arrived_count + arrived
        self._settle(now_s)

    def _follow(self, at_s: float, size: int, delay_s: float, now_s: float) -> None:
        if delay_s - self._base.value < LATE_S:
            self._train.clear()
            return
        self._train.append((at_s, size))
        if len(self._train) == TRAIN:
            size = sum(each for _, each in self._train) - self._train[0][1]  # the first starts the span
            self._bursts.append((now_s, 8 * size / max(TICK_S, at_s - self._train[0][0])))

    def _settle(self, now_s: float) -> None:
        while self._bursts and now_s - self._bursts[0][0] > WINDOW_S:
            self._bursts.popleft()
        self.burst_bps = max((bps for _, bps in self._bursts), default=0.0)
        while self._delays and now_s - self._delays[0][0] > STANDING_S:
            self._delays.popleft()
        if self._delays:
            least = min(delay for _, delay in self._delays)
            self.queue_s = max(0.0, least - self._base.add(least, now_s))
        while self._fates and now_s - self._fates[0][0] > LOSS_WINDOW_S:
            _, lost, arrived = self._fates.popleft()
            self._lost, self._arrived_count = self._lost - lost, self._arrived_count - arrived
        lost, count = self._lost, self._lost + self._arrived_count
        self.loss = share = lost / count if count >= LOSS_LEAST else 0.0
        self.sure_loss = max(0.0, share - 2 * math.sqrt(share * (1 - share) / max(1, count)))
        if self._acked:
            last_s = self._acked[-1][0]
            while last_s - self._acked[0][0] > WINDOW_S:
                self._acked_bytes -= self._acked.popleft()[1]
            span_s = last_s - self._acked[0][0]
            if span_s > WINDOW_S / 2:
                size = self._acked_bytes - self._acked[0][1]  # the first starts the span
                self.acked_bps = 8 * size / span_s


class _Least:
    """The minimum of the last one to two spans, in constant memory."""

    def __init__(self, span_s: float) -> None:
        self._span_s = span_s
        self._since_s = float("-inf")
        self._now = self._before = float("inf")

    @property
    def value(self) -> float:
        return min(self._now, self._before)

    def add(self, value: float, now_s: float) -> float:
        if now_s - self._since_s > self._span_s:
            self._before, self._now, self._since_s = self._now, float("inf"), now_s
        self._now = min(self._now, value)
        return self.value
