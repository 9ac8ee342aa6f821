"""Chooses the rung that a viewer's link can carry: down within a second, up with care. Pure, on plain
numbers.

It goes down when a queue builds up or packets are lost because of the rate, and up after a probe: for a while
packets are sent twice, at the rate of the next rung. If loss does not depend on the rate, everything is sent
up to three times, on a lower rung, so that it costs no more than the top rung. The signals are those of RFC
8698 and draft-ietf-rmcat-gcc-02; with rungs the rest is simpler than there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from server.webrtc.rtp.link import Link

QUEUE_S, QUEUE_HIGH_S = 0.1, 0.3  # a standing queue; above the higher limit it is too long in any case
QUEUE_CLEAR_S = 0.05
SEEN_AFTER_S = 0.3  # feedback arrives ten times a second, and the standing queue is the minimum over 0.2 s
DRAINING = 0.95  # a queue below this share of its earlier length is draining
KEPT_UP = 0.92  # share of the sent rate that arrives on a link that keeps up
REMB_FOLLOWS_S = 4.0  # a receiver's estimate takes this long to follow a rate that rose
MARGIN = 0.85  # share of the measured throughput that is used
GUESS = 0.7  # of the rate is carried by a link with a queue that does not tell its throughput
LOSS_CAUSED = 0.15  # loss from here on may be caused by the rate
LOSS_CLEAR = 0.03
SETTLE_S, RTT_MAX_S = 0.7, 0.3  # after a step down, and one round trip, before its effect is judged
DRAIN_MAX_S = 4.0  # how long to wait for the queue to drain after a step down
KEYFRAME_S, KEYFRAME_QUEUE_S = (
    1.5,
    0.3,
)  # a step starts with a keyframe of about four frames' size: how long its queue may be
JUDGE_S = 2.5  # until it is known whether a step down reduced loss
HOLD_S, HOLD_MAX_S = 2.0, 8.0  # wait before a probe; doubled after each failed probe of the same rung
RELAPSE_S = 5.0  # a rung that is lost again within this time was more than the link carries
PROBE_S, SLOW_PROBE_S, PROBE_SHARE = 1.5, 3.0, 1.15  # slow: reports come once a second
STOOD_SHARE = 1.3  # what had waited and arrives at this multiple of its rate did not wait for a slow link
REGAIN_HOLD_S, REGAIN_PROBE_S, REGAIN_S = 0.3, 0.6, 8.0  # then: wait before the probe, probe, until when
FAR_S = 0.06  # round trip above which retransmissions arrive too late to be shown
COPIES = ((0.075, 2), (0.04, 1))  # from this loss on, this many additional copies of each packet are sent
LOSSY_S, LOSSY_SURE_S = 1.0, 0.4  # duration of loss before packets are copied; sure: not by chance
NEAR_FACTOR = 2.0  # with a short round trip, the thresholds of loss are twice as high
PROTECTED_LOSS = 0.3  # loss that is acceptable while everything is sent several times
RELAX_S = 6.0


@dataclass
class RateControl:
    """`update` on each feedback; then `rung` and `copies` say what to send, `probe_bps` what to add.

    `rates` are the rungs' bitrates, the highest first."""

    rates: Sequence[int]
    rung: int = 0
    copies: int = 0  # additional copies of each packet, sent a little later
    probe_bps: float = 0.0  # the total rate to send, while it is above 0
    why: str = "start"
    _changed_s: float = float("-inf")
    _hold_s: dict[int, float] = field(default_factory=dict)  # wait before the next probe of each rung
    _probe_until_s: float = 0.0
    _lossy_s: float | None = None
    _calm_s: float | None = None
    _constant_loss: float = 0.0  # loss that does not depend on the rate
    _loss_before: float = field(default=0.0)
    _raised_s: float = float("-inf")
    _lowered_s: float = float("-inf")  # an aborted probe counts too
    _queue_s: float = 0.0
    _lowered_queue_s: float = 0.0
    _drained_s: float = float("-inf")
    _regain: tuple[int, float] | None = None  # the rung before a queue, until when it may be regained fast
    _regain_hold_s: float = REGAIN_HOLD_S  # longer each time that the rung is soon lost again
    _stood: bool = False  # that queue was a standstill

    def update(self, link: Link, sent_bps: float, now_s: float) -> None:
        if self._regain is not None and link.burst_bps > STOOD_SHARE * self.rates[self._regain[0]]:
            self._stood = True  # the first report of a queue has too few packets to tell
        if self._too_much(link, sent_bps, now_s):
            self._down(link, sent_bps, now_s)
        elif self.probe_bps and now_s >= self._probe_until_s:
            self._up(link, now_s)
        elif not self.probe_bps:
            self._judge_loss(link, now_s)
            if self._may_probe(link, sent_bps, now_s):
                target = self.rates[self._next_rung(now_s)] * (1 + self.copies)
                probe_s = PROBE_S if link.precise else SLOW_PROBE_S
                probe_s = REGAIN_PROBE_S if self._regains(now_s) else probe_s
                self.probe_bps, self._probe_until_s = PROBE_SHARE * target, now_s + probe_s

    def without_probe(self, link: Link, now_s: float) -> None:
        """The viewer can't be probed, since it does not support retransmission: try the next rung itself."""
        if self.probe_bps:
            self._up(link, now_s)

    # ---- down ----

    def _too_much(self, link: Link, sent_bps: float, now_s: float) -> bool:
        settle_s = SETTLE_S + min(link.rtt_s or 0.0, RTT_MAX_S)
        if now_s - self._lowered_s < settle_s:
            return False
        queue_s, before_s = link.queue_s or 0.0, self._queue_s
        self._queue_s = queue_s
        drains = queue_s <= QUEUE_S or link.acked_bps is None or link.acked_bps > self.rates[self.rung]
        if drains and now_s < self._drained_s and queue_s <= self._lowered_queue_s + KEYFRAME_QUEUE_S:
            return False
        if (
            now_s - self._raised_s < KEYFRAME_S
            and queue_s < QUEUE_HIGH_S
            and not self._lowered_s > self._raised_s
        ):
            return False
        if queue_s < DRAINING * before_s and not self.probe_bps:
            return False
        kept_up = self._kept_up(link, sent_bps)
        if link.precise:
            if queue_s > QUEUE_HIGH_S or (queue_s > QUEUE_S and (not kept_up or bool(self.probe_bps))):
                return True
        elif queue_s > QUEUE_HIGH_S:
            return True
        if self._remb_low(link, sent_bps) and now_s - self._raised_s > REMB_FOLLOWS_S:
            return True
        if link.precise and self._loss_before and now_s - self._changed_s < JUDGE_S:
            return False  # whether the last step helped is not known yet
        return link.sure_loss > max(LOSS_CAUSED, self._constant_loss + 0.1)

    def _remb_low(self, link: Link, sent_bps: float) -> bool:
        if link.precise or link.remb_bps is None:
            return False
        return link.remb_bps < KEPT_UP * min(sent_bps, self.rates[self.rung])

    @staticmethod
    def _kept_up(link: Link, sent_bps: float) -> bool:
        return link.acked_bps is None or link.acked_bps >= KEPT_UP * sent_bps

    def _down(self, link: Link, sent_bps: float, now_s: float) -> None:
        self._lowered_s = now_s
        queue_s = link.queue_s or 0.0
        self._lowered_queue_s = queue_s + self._unseen_s(link, sent_bps)
        if self.probe_bps:  # only the probe was too much
            self._regain = None
            self._back_off(self.rung - 1)
            self._change(link, now_s)
            self._drain(link, now_s)
            return
        if now_s - self._raised_s < RELAPSE_S:
            self._back_off(self.rung)
            self._regain_hold_s = min(HOLD_MAX_S, 3 * self._regain_hold_s)
        else:
            self._regain_hold_s = REGAIN_HOLD_S
        if queue_s > QUEUE_S and (self._regain is None or now_s > self._regain[1]):
            self._regain = self.rung, now_s + REGAIN_S
            self._stood = link.burst_bps > STOOD_SHARE * self.rates[self.rung]
        carried = link.acked_bps if link.precise and link.acked_bps else link.remb_bps
        if carried is None:
            carried = min(sent_bps, self.rates[self.rung]) * (1 - link.loss)
            carried *= GUESS if queue_s > QUEUE_S else 1
        if queue_s <= QUEUE_S and link.loss > LOSS_CAUSED:
            self._loss_before = link.loss
        if queue_s > QUEUE_S:
            self.copies = 0
        lower = [i for i in range(self.rung + 1, len(self.rates)) if self.rates[i] <= MARGIN * carried]
        self.why = "queue" if queue_s > QUEUE_S else "loss" if link.loss > LOSS_CAUSED else "remb"
        self.rung = min(lower, default=len(self.rates) - 1)
        self._change(link, now_s)
        self._drain(link, now_s)

    def _drain(self, link: Link, now_s: float) -> None:
        """A queue takes time to drain on a rung that the link carries; this is no reason to go lower."""
        self._drained_s = now_s
        if link.precise and link.acked_bps:
            spare = link.acked_bps - self.rates[self.rung] * (1 + self.copies)
            drain_s = self._lowered_queue_s * link.acked_bps / spare if spare > 0 else 0.0
            self._drained_s += min(DRAIN_MAX_S, SETTLE_S + drain_s)

    @staticmethod
    def _unseen_s(link: Link, sent_bps: float) -> float:
        """By how much the queue has grown since the moment that the feedback describes."""
        if not link.precise or not link.acked_bps:
            return 0.0
        return (SEEN_AFTER_S + (link.rtt_s or 0.0)) * max(0.0, sent_bps / link.acked_bps - 1)

    def _change(self, link: Link, now_s: float) -> None:
        """The sent rate changes, so earlier loss says nothing about it."""
        self.probe_bps, self._changed_s = 0.0, now_s
        self._calm_s = self._lossy_s = None
        link.forget_loss(now_s)

    def _back_off(self, rung: int) -> None:
        self._hold_s[rung] = min(HOLD_MAX_S, 2 * self._hold_s.get(rung, HOLD_S))

    # ---- loss that the rate does not cause ----

    def _judge_loss(self, link: Link, now_s: float) -> None:
        if self._loss_before:
            if now_s - self._changed_s < JUDGE_S:
                return
            constant = link.loss > 0.6 * self._loss_before  # half the rate, the same loss
            self._loss_before = 0.0
            if constant:
                self._constant_loss = max(self._constant_loss, link.loss)
                self._protect(self._copies_for(link.loss, link), link, now_s)
                return
        if link.loss < self._constant_loss / 2:
            self._constant_loss *= 0.98
        wanted = self._copies_for(link.loss, link)
        if wanted > self.copies:
            self._calm_s = None
            self._lossy_s = now_s if self._lossy_s is None else self._lossy_s
            sure = self._copies_for(link.sure_loss, link) > self.copies
            wait_s = JUDGE_S if link.loss >= LOSS_CAUSED else LOSSY_SURE_S if sure else LOSSY_S
            if now_s - self._lossy_s > wait_s:
                self._protect(wanted, link, now_s)
            return
        self._lossy_s = None
        if self.copies and link.loss < LOSS_CLEAR / 2:
            self._calm_s = now_s if self._calm_s is None else self._calm_s
            if now_s - self._calm_s > RELAX_S:
                self.copies = 0
                self._change(link, now_s)

    def _protect(self, copies: int, link: Link, now_s: float) -> None:
        if copies > self.copies:
            self.copies, self.why = copies, "loss"
            self._constant_loss = max(self._constant_loss, link.loss)  # what copies alone do not explain
            self.rung = max(self.rung, self._best_rung)
            self._change(link, now_s)

    @staticmethod
    def _copies_for(lost: float, link: Link) -> int:
        if (link.queue_s or 0.0) > QUEUE_S:
            return 0
        factor = 1.0 if (link.rtt_s or 0.0) > FAR_S else NEAR_FACTOR
        return next((copies for loss, copies in COPIES if lost > factor * loss), 0)

    @property
    def _best_rung(self) -> int:
        """The best rung that costs no more with its copies than the top rung without any."""
        fitting = (i for i, rate in enumerate(self.rates) if rate * (1 + self.copies) <= self.rates[0])
        return next(fitting, len(self.rates) - 1)

    # ---- up ----

    def _regains(self, now_s: float) -> bool:
        """Whether a rung was lost because everything stood still for a moment, link or machine, and not to a
        link that is too slow for it: then it is probed at once, and directly."""
        regain = self._regain
        return regain is not None and self._stood and regain[0] < self.rung and now_s < regain[1]

    def _next_rung(self, now_s: float) -> int:
        if self._regain is not None and self._regains(now_s):
            return max(self._regain[0], self._best_rung)
        return self.rung - 1

    def _may_probe(self, link: Link, sent_bps: float, now_s: float) -> bool:
        hold_s = self._regain_hold_s if self._regains(now_s) else self._hold_s.get(self.rung - 1, HOLD_S)
        if self.rung <= self._best_rung or now_s - self._changed_s < hold_s or now_s - link.heard_s > 1.5:
            return False
        if not self._kept_up(link, (1 - link.loss) * sent_bps):
            return False
        known = max(LOSS_CLEAR, 1.3 * self._constant_loss, PROTECTED_LOSS if self.copies else 0.0)
        return (link.queue_s or 0.0) < QUEUE_CLEAR_S and link.loss <= known

    def _up(self, link: Link, now_s: float) -> None:
        self.rung, self._regain = self._next_rung(now_s), None
        self.why, self._raised_s = "free", now_s
        self._change(link, now_s)
