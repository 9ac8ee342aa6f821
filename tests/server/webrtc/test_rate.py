"""The rate policy in a simulated link: a bottleneck with a queue, losses and a round trip.

No network and no clock: the results are the same on every machine. `benchmarks/network` uses real networks.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

import pytest

from server.ladder import ladder
from server.webrtc.rtp.link import Link
from server.webrtc.rtp.rate import RateControl
from server.webrtc.rtp.rtcp import Heard, ReceiverReport

RATES = [rung.bitrate_bps for rung in ladder(900_000, 320, 192, 16)]
FPS = 16
PACKET = 1000
FEEDBACK_S = 0.1


class Road:
    """A sender that splits frames into packets, a bottleneck, and a receiver that reports arrivals.

    `cap` is the link's rate in bits per second as a function of time. `precise` receivers use TWCC, others
    report round trip and loss once a second. Frames vary in size like an encoder's, with a mean of `spend` of
    the rung's rate; the first frame on a rung is a keyframe of four times the size."""

    def __init__(
        self,
        cap: Callable[[float], float],
        delay_s: float = 0.025,
        loss: float = 0.0,
        queue_bytes: int = 40_000,
        precise: bool = True,
        spend: float = 1.0,
    ) -> None:
        self.spend, self._keyed = spend, 0
        self.cap, self.delay_s, self.loss, self.queue_bytes, self.precise = (
            cap,
            delay_s,
            loss,
            queue_bytes,
            precise,
        )
        self.link, self.control = Link(), RateControl(RATES)
        self.now_s = self.free_s = 0.0
        self.number = self.frames = 0
        self.arrived: deque[tuple[float, int, float | None]] = deque()  # when told, number, arrival
        self.rungs: list[tuple[float, int]] = []
        self.worst_queue_s = 0.0
        self.protected_s = 0.0
        self._dice = random.Random(4)
        self._told_s = 0.0
        self._lost = self._sent = 0
        self.later_s: Callable[[float], float] = lambda now_s: 0.0  # delay that the rate does not cause

    def play(self, until_s: float) -> None:
        while self.now_s < until_s:
            self._frame()
            for _ in range(5):
                self.now_s += 1 / FPS / 5
                self._tell()
            self.rungs.append((self.now_s, self.control.rung))
            self.protected_s += (self.control.copies > 0) / FPS

    def _frame(self) -> None:
        control = self.control
        self.frames += 1
        if control.rung == 3 and self.frames % 4:
            return
        bits = control.rates[control.rung] * self.spend * self._dice.uniform(0.7, 1.3)
        bits *= (
            (1 + control.copies) * (4 if control.rung == 3 else 1) * (4 if self._keyed != control.rung else 1)
        )
        bits, self._keyed = max(bits, control.probe_bps * (4 if control.rung == 3 else 1)), control.rung
        for _ in range(max(1, round(bits / 8 / FPS / PACKET))):
            self._packet()

    def _packet(self) -> None:
        number, self.number = self.number, (self.number + 1) & 0xFFFF
        self.link.sent(number, PACKET, self.now_s)
        self.link.sized(PACKET, self.now_s)
        self._sent += 1
        rate = self.cap(self.now_s)
        waiting = max(0.0, self.free_s - self.now_s) * rate / 8
        if self._dice.random() < self.loss or waiting > self.queue_bytes:
            self._lost += 1
            self.arrived.append((self.now_s, number, None))
            return
        self.free_s = max(self.free_s, self.now_s) + 8 * PACKET / rate
        self.worst_queue_s = max(self.worst_queue_s, self.free_s - self.now_s)
        at_s = self.free_s + self.delay_s + self.later_s(self.now_s)
        at_s = max([at_s, *(before for *_, before in self.arrived if before is not None)])  # in order
        self.arrived.append((at_s, number, at_s))

    def _tell(self) -> None:
        every_s = FEEDBACK_S if self.precise else 1.0
        if self.now_s - self._told_s < every_s:
            return
        self._told_s = self.now_s
        ready = []
        while self.arrived and self.arrived[0][0] + self.delay_s <= self.now_s:
            ready.append(self.arrived.popleft())
        if not ready:
            return
        rtt_s = 2 * self.delay_s + max(0.0, self.free_s - self.now_s)
        heard = Heard(reports=[ReceiverReport(self._lost / max(1, self._sent), 0, 0, 0.0)])
        if self.precise:
            heard.arrivals = [(number, None if at_s is None else at_s + 1000) for _, number, at_s in ready]
        self._lost = self._sent = 0
        self.link.heard(heard, rtt_s, self.now_s)
        self.control.update(self.link, self.link.sent_bps(), self.now_s)

    def share_on(self, rung: int, since_s: float) -> float:
        """The share of the time since then on this rung or a better one."""
        late = [r for at_s, r in self.rungs if at_s >= since_s]
        return sum(r <= rung for r in late) / len(late)


def test_a_wide_link_stays_on_the_top_rung() -> None:
    road = Road(lambda now_s: 5e6)
    road.play(60)
    assert {rung for _, rung in road.rungs} == {0}


@pytest.mark.parametrize(
    ("cap", "rung"), [(1.1e6, 0), (600e3, 1), (500e3, 1), (300e3, 2), (250e3, 2), (100e3, 3)]
)
@pytest.mark.parametrize("precise", [True, False], ids=["TWCC", "reports"])
def test_a_narrow_link_gets_the_rung_that_it_can_carry_and_keeps_it(
    cap: float, rung: int, precise: bool
) -> None:
    road = Road(lambda now_s: cap, precise=precise)
    road.play(60)
    assert road.share_on(rung, 10) > 0.8, road.rungs[:: FPS // 2]
    assert rung == 0 or road.share_on(rung - 1, 10) < 0.2


def test_a_link_that_narrows_steps_down_within_a_second_and_up_again_within_fifteen() -> None:
    road = Road(lambda now_s: 400e3 if 20 <= now_s < 40 else 2e6)
    road.play(60)
    down_s = next(at_s for at_s, rung in road.rungs if at_s > 20 and rung == 2) - 20
    up_s = next(at_s for at_s, rung in road.rungs if at_s > 40 and rung == 0) - 40
    assert down_s < 1.0
    assert up_s < 15.0
    assert road.worst_queue_s < 1.0
    assert {rung for at_s, rung in road.rungs if 23 < at_s < 40} == {2}


@pytest.mark.parametrize("since_s", [0.2, 5.0], ids=["as it joins", "later"])
@pytest.mark.parametrize(("late_s", "for_s"), [(0.2, 0.5), (0.35, 0.3), (0.35, 1.0), (0.5, 0.5), (0.5, 2.0)])
def test_what_stood_still_for_a_moment_is_at_its_rung_again_a_second_later(
    late_s: float, for_s: float, since_s: float
) -> None:
    """A busy machine, or a radio link that pauses, looks like a queue. It cost four seconds for each rung."""
    road = Road(lambda now_s: 50e6, delay_s=0.005)
    road.later_s = lambda now_s: late_s if since_s <= now_s < since_s + for_s else 0.0
    road.play(20)
    assert max(rung for _, rung in road.rungs) > 0  # it might be a queue
    back_s = next(at_s for at_s, rung in reversed(road.rungs) if rung) + 1 / FPS
    assert back_s - (since_s + for_s) < 1.4


@pytest.mark.parametrize(("burst_bps", "rung"), [(20e6, 0), (300e3, 3)])
def test_that_it_stood_still_may_show_only_after_the_step_down(burst_bps: float, rung: int) -> None:
    """An easy picture has a packet per frame, and the first report of a queue has only a few of them."""
    link, control = Link(precise=True, acked_bps=40e3), RateControl(RATES)
    for now_s, queue_s, bps in ((10.0, 0.0, 0.0), (10.1, 0.7, 0.0), (10.2, 0.7, burst_bps), (12.0, 0.0, 0.0)):
        link.heard_s, link.queue_s, link.burst_bps = now_s, queue_s, bps
        control.update(link, 40e3, now_s)
    assert control.rung == 3
    link.heard_s = 12.7
    control.update(link, 40e3, 12.7)
    assert control.rung == rung


def test_a_link_that_stands_still_and_is_narrow_too_is_probed_once_and_then_left() -> None:
    """Wireless links deliver what had waited in bursts, even if there is too much for them."""
    road = Road(lambda now_s: 50e6 if now_s < 5 else 500e3, delay_s=0.005)
    road.later_s = lambda now_s: 0.35 if 5 <= now_s < 5.3 else 0.0
    road.play(60)
    assert road.share_on(1, 10) > 0.9
    assert road.share_on(0, 10) < 0.05


@pytest.mark.parametrize("spend", [1.0, 0.6])
def test_a_failed_probe_does_not_leave_the_current_rung(spend: float) -> None:
    """The queue that a probe leaves took a while to drain, and sent viewers one rung down forever."""
    road = Road(lambda now_s: 500e3, delay_s=0.02, queue_bytes=48_000, spend=spend)
    road.play(60)
    assert {rung for at_s, rung in road.rungs if at_s > 10} == {1}


@pytest.mark.parametrize(("loss", "rung"), [(0.05, 1), (0.1, 2), (0.2, 2)])
def test_loss_not_caused_by_the_rate_is_answered_with_copies(loss: float, rung: int) -> None:
    """On a rung where the copies cost no more than the top rung without copies."""
    road = Road(lambda now_s: 5e6, delay_s=0.05, loss=loss)
    road.play(60)
    assert road.share_on(rung, 10) > 0.9
    assert road.protected_s > 45


def test_loss_is_met_within_a_second_or_so_and_heavy_loss_within_five() -> None:
    """Before copies are sent, two thirds of the time stand still at 10 %. Medians of 15 links."""

    def protected_s(loss: float, copies: int) -> float:
        found = []
        for seed in range(15):
            road = Road(lambda now_s: 5e6, delay_s=0.05, loss=loss)
            road._dice = random.Random(seed)
            while road.control.copies < copies and road.now_s < 20:
                road.play(road.now_s + 0.05)
            found.append(road.now_s)
        return sorted(found)[7]

    assert protected_s(0.1, 2) < 1.2
    assert protected_s(0.2, 2) < 5.0


def test_loss_that_ends_is_forgotten() -> None:
    road = Road(lambda now_s: 5e6, delay_s=0.05)
    road.loss = 0.1
    road.play(20)
    assert road.control.copies == 2
    road.loss = 0.0
    road.play(60)
    assert (road.control.copies, road.control.rung) == (0, 0)


def test_a_near_viewer_needs_retransmission_only() -> None:
    road = Road(lambda now_s: 5e6, delay_s=0.005, loss=0.06)
    road.play(30)
    assert (road.control.copies, road.control.rung) == (0, 0)


def test_a_policer_without_a_queue_is_answered_with_a_lower_rung() -> None:
    """Some mobile networks drop everything above the rate at once, without any delay that could be
    measured."""
    road = Road(lambda now_s: 600e3, queue_bytes=6_000)
    road.play(40)
    assert road.share_on(1, 10) > 0.8
    assert road.share_on(0, 10) < 0.2


def test_missing_feedback_changes_nothing() -> None:
    road = Road(lambda now_s: 5e6)
    road.play(10)
    road.now_s += 5
    road.play(25)
    assert {rung for _, rung in road.rungs} == {0}


def test_remb_is_obeyed_if_there_is_no_better_feedback() -> None:
    link, control = Link(), RateControl(RATES)
    for second in range(3):
        link.heard(Heard(reports=[ReceiverReport(0.0, 0, 0, 0.0)], remb_bps=500_000), 0.05, second)
        link.sized(56_000, second)
        control.update(link, 900_000, second)
    assert (control.rung, control.why) == (1, "remb")


def test_without_retransmission_the_next_rung_itself_is_the_probe() -> None:
    control = RateControl(RATES, rung=1, probe_bps=1e6)
    control.without_probe(Link(), 5.0)
    assert (control.rung, control.probe_bps) == (0, 0.0)
