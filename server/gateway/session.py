"""What the gateway keeps of one session: who may use it, who watches it, what was answered.

The video itself, its prompt and its state belong to the worker. Every part of this is bounded.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from engine.errors import PsistreamError
from engine.types import Control, ControlBody, Image, OpenSession, Receipt, SessionInfo, Stall
from server.gateway.numbering import Numbering
from server.gateway.recovery import RecoveryRecord
from server.links import Links
from server.webrtc.fanout import Fanout
from server.worker.messages import Packet, SegmentStats, SetViewers

MAIN = "main"  # the session that everybody shares
REMEMBERED_ANSWERS = 1024
REMEMBERED_TIMES = 256
# a session is overdue when nothing new came for this many segments after the last, and for this long
OVERDUE_PERIODS, OVERDUE_S = 2.0, 2.0


@dataclass
class Leaving:
    """What was on the screen as the session left `worker` is still shown from there, up to `segment` as that
    worker counts, until the next worker's first packet has arrived."""

    worker: str
    segment: int
    numbers: Numbering
    arrived: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class GatewaySession:
    """`token` steers and `view_token` watches. None: everybody may, which only a server on loopback grants.
    The session is charged to the budget of `client`; None: to nobody's."""

    id: str
    token: str | None
    view_token: str | None
    client: str | None
    fanout: Fanout
    worker: str  # the one that runs it, or that runs it again once it is back
    info: SessionInfo
    recovery: RecoveryRecord
    opened: asyncio.Future[None]
    verdict: asyncio.Future[None]  # of the worker that was asked to open it
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    stats: SegmentStats | None = None
    buffering: Stall | None = None  # as told at `told_s`
    told_s: float = 0.0
    moved_s: float = 0.0  # it is fine until then: a segment plays, or is expected
    used_s: float = 0.0  # when it was last steered or watched
    placed_s: float = 0.0  # when its worker was told of it
    answers: OrderedDict[str, Receipt] = field(default_factory=OrderedDict)
    contents: dict[str, bytes] = field(default_factory=dict)  # digests of the controls with those ids
    received_s: dict[str, float] = field(default_factory=dict)  # of controls without a final receipt
    times: OrderedDict[int, int] = field(default_factory=OrderedDict)  # frame → pts_90k
    numbers: Numbering = field(default_factory=Numbering)
    links: Links = field(default_factory=Links)
    begun: asyncio.Event = field(default_factory=asyncio.Event)  # a segment begins to be shown
    leaving: Leaving | None = None  # the worker that it has just left
    moving: bool = False  # it is about to leave its worker
    away: bool = False  # its worker is gone, and the next one has not been told of it yet
    closing: bool = False  # it was asked to end, so it does not go on in another worker
    lost_s: float | None = None  # when its worker was lost, until its picture moves again
    failovers: int = 0  # in a row
    internal: set[str] = field(default_factory=set)  # ids of controls that no client sent
    throttled: bool = False  # its client has used up its share of the device

    @property
    def tokens(self) -> list[str]:
        return [token for token in (self.token, self.view_token) if token is not None]

    @property
    def asleep(self) -> bool:
        """Paused or unwatched: before long it takes no device time."""
        return self.info.paused or not self.fanout.count

    def overdue(self, now_s: float, period_s: float) -> bool:
        """Watched and not paused, but with nothing new for long. A segment takes `period_s` on a fast
        device."""
        moves = not (self.asleep or self.away or self.throttled)
        told = self.buffering or self.stats
        usual_s = period_s / max(0.001, min(1.0, told.speed if told else 1.0))
        return moves and now_s - self.moved_s > max(OVERDUE_S, OVERDUE_PERIODS * usual_s)

    def audience(self) -> SetViewers:
        """How many watch, as the worker is told: nobody while the session is throttled."""
        return SetViewers(self.id, {} if self.throttled else self.fanout.viewers, self.throttled)

    def watched(self, now_s: float) -> None:
        """A viewer came or went."""
        self.used_s = now_s
        if self.fanout.count == 1:  # the first one: generation starts again
            self.moved_s = max(self.moved_s, now_s)

    def answer_to(self, control: Control) -> Receipt | None:
        """The latest receipt of a control that was sent before. Another control with the same id is refused:
        its sender would take the answer for its own."""
        known = self.answers.get(control.id)
        if known is None or self.contents.get(control.id) in (None, digest(control.body)):
            return known
        text = "another control came with this id: send it with a new id, or without one"
        return Receipt(self.id, control.id, "rejected", code="id_reused", message=text)

    def received(self, control: Control, now_s: float) -> Receipt:
        """The control is on its way to the worker."""
        self.recovery.submitted(control)
        self.contents[control.id] = digest(control.body)
        receipt = Receipt(self.id, control.id, "received")
        self.remember(receipt)
        self.received_s[control.id] = self.used_s = now_s
        return receipt

    def numbered(self, worker: str, packet: Packet, now_s: float) -> Packet | None:
        """A packet of this worker as clients count, or None if it is not to be shown: each frame is shown
        once, by one worker."""
        left = self.leaving
        if worker == self.worker:
            if left is not None:
                left.arrived.set()
                self.leaving = None
            return self.numbers.packet(packet, now_s)
        if left is None or worker != left.worker or packet.segment > left.segment:
            return None
        return left.numbers.packet(packet, now_s)

    def refuse(self, error: PsistreamError) -> None:
        """The session will not be opened. Ignored once it is open."""
        self.declined(error)
        _fail(self.opened, error)

    def asked(self, worker: str, now_s: float) -> None:
        """This worker is asked to open it."""
        self.worker, self.placed_s = worker, now_s
        self.verdict = asyncio.get_running_loop().create_future()

    def declined(self, error: PsistreamError) -> None:
        """Its worker does not open it; another one may."""
        _fail(self.verdict, error)

    def changed(self, info: SessionInfo, now_s: float) -> None:
        """The worker reports a change, or that the session is open."""
        self.info, self.moved_s = info, max(self.moved_s, now_s)
        for waiting in (self.verdict, self.opened):
            if not waiting.done():
                waiting.set_result(None)

    def played(self, stats: SegmentStats, now_s: float, plays_s: float) -> tuple[int, int]:
        """A segment begins to be shown, for `plays_s` at natural speed. Returns how many segments were late
        and how many frames were dropped since the last call."""
        before, self.stats, self.moved_s = self.stats, stats, now_s + plays_s / stats.rate
        self.begun.set()
        self.recovery.played(stats)
        late = stats.late_total - (before.late_total if before else 0)
        return late, stats.dropped_frames_total - (before.dropped_frames_total if before else 0)

    def stall(self, buffering: Stall | None, now_s: float) -> None:
        """The picture stalls, or goes on (None)."""
        self.buffering, self.told_s = buffering, now_s
        self.moved_s = max(self.moved_s, now_s + (buffering.resumes_in_s if buffering else 0.0))

    def current(self, now_s: float) -> SessionInfo:
        """As of the segment on screen."""
        info = replace(self.info, viewers=self.fanout.count)
        if self.stats is not None and self.stats.segment > info.segment:
            info = replace(info, segment=self.stats.segment, frame=self.stats.frame, epoch=self.stats.epoch)
        if self.buffering is not None:
            left_s = max(0.0, self.buffering.resumes_in_s - (now_s - self.told_s))
            info = replace(info, buffering=replace(self.buffering, resumes_in_s=left_s))
        return info

    def remember(self, receipt: Receipt) -> None:
        """Keep the latest receipt of an id. Beyond the limit the oldest are forgotten."""
        self.answers[receipt.id] = receipt
        if len(self.answers) > REMEMBERED_ANSWERS:
            forgotten, _ = self.answers.popitem(last=False)
            self.received_s.pop(forgotten, None)
            self.contents.pop(forgotten, None)

    def remember_time(self, frame: int, pts_90k: int) -> None:
        self.times[frame] = pts_90k
        if len(self.times) > REMEMBERED_TIMES:
            self.times.popitem(last=False)

    def pts_of(self, frame: int) -> int | None:
        return self.times.get(frame)


def _fail(waiting: asyncio.Future[None], error: PsistreamError) -> None:
    if not waiting.done():
        waiting.set_exception(error)
        waiting.exception()  # retrieved, in case nobody waits any more


def digest(body: ControlBody) -> bytes:
    """Of what a control asks for, without its id and time limit."""
    if isinstance(body, Image):
        return hashlib.sha256(body.when.encode() + body.pixels.tobytes()).digest()
    return hashlib.sha256(repr(body).encode()).digest()


def unguessable(size: int) -> str:
    """A name or token of `size` random bytes. It starts with a letter or a digit, otherwise a command line
    would take it for an option."""
    while not (name := secrets.token_urlsafe(size))[0].isalnum():
        pass
    return name


def new_session(
    info: SessionInfo,
    origin: OpenSession,
    *,
    shared: bool,
    client: str | None,
    now_s: float,
    on_viewers: Callable[[dict[str, int]], None],
    on_keyframe: Callable[[str], None],
) -> GatewaySession:
    """`shared`: without tokens. The callbacks are those of the session's Fanout."""
    loop = asyncio.get_running_loop()
    return GatewaySession(
        id=info.id,
        token=None if shared else unguessable(24),
        view_token=None if shared else unguessable(24),
        client=client,
        fanout=Fanout(on_viewers, on_keyframe),
        worker="",
        info=info,
        recovery=RecoveryRecord(origin),
        opened=loop.create_future(),
        verdict=loop.create_future(),
        moved_s=now_s,
        used_s=now_s,
    )
