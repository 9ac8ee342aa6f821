"""What the gateway knows of one session: who may use it, its viewers and the receipts it has answered with.

The video, its prompt and its state belong to the worker. Everything stored here is bounded.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from engine.errors import PsistreamError
from engine.types import Control, ControlBody, Image, OpenSession, Receipt, SessionInfo, Stall
from server.access.links import Links
from server.access.tokens import Role, hash_of, same_hash, unguessable
from server.gateway.numbering import SessionProgress
from server.gateway.recovery import RecoveryRecord
from server.webrtc.fanout import Fanout
from server.worker.messages.commands import SetViewers
from server.worker.messages.events import Packet, SegmentStats

MAIN = "main"  # the shared session
INTERNAL = "resume-"  # prefix of the ids of controls that no client sent
REMEMBERED_ANSWERS = 1024
REMEMBERED_TIMES = 256
# a session is overdue after this many segment periods without news, but not before this many seconds
OVERDUE_PERIODS, OVERDUE_S = 2.0, 2.0


@dataclass
class Handover:
    """A migration in progress. `worker`, which the session has left, still plays up to `segment`, until the
    first packet of the new worker sets `arrived`."""

    worker: str
    segment: int
    arrived: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class GatewaySession:
    """The token with `token_hash` allows steering, and the one with `view_token_hash` allows watching. None
    means that no token is needed, which only a server on loopback allows. The tokens themselves are known
    until whoever opened the session has been told, and not at all in a gateway that has taken it over. Device
    time is charged to the budget of `client`; None is not charged."""

    id: str
    token_hash: str | None
    view_token_hash: str | None
    client: str | None
    fanout: Fanout
    worker: str  # the worker that runs it, or will run it again after a restart
    info: SessionInfo
    recovery: RecoveryRecord
    opened: asyncio.Future[None]
    verdict: asyncio.Future[None]  # the answer of the worker that was asked to open it
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    stats: SegmentStats | None = None
    buffering: Stall | None = None  # as reported at `told_s`
    told_s: float = 0.0
    fine_until_s: float = 0.0  # not overdue before: a segment plays until then, or is expected then
    used_s: float = 0.0  # when it was last steered or watched
    placed_s: float = 0.0  # when it was assigned to its worker
    answers: OrderedDict[str, Receipt] = field(default_factory=OrderedDict)
    contents: dict[str, bytes] = field(default_factory=dict)  # control id → digest of its content
    received_s: dict[str, float] = field(default_factory=dict)  # controls without a final receipt
    times: OrderedDict[int, int] = field(default_factory=OrderedDict)  # frame → pts_90k
    lease_epoch: int = 1  # a worker obeys the gateway that claims with a higher one
    resuming: bool = False  # claimed from its worker, which has not answered yet
    progress: SessionProgress = field(default_factory=SessionProgress)
    links: Links = field(default_factory=Links)
    segment_shown: asyncio.Event = field(default_factory=asyncio.Event)  # set when a segment starts to play
    handover: Handover | None = None  # set while the old worker still plays after a migration
    moving: bool = False  # a migration is being prepared
    orphaned: bool = False  # its worker is lost and it has not been assigned to another one yet
    closing: bool = False  # a client asked to close it, so failover does not restore it
    lost_s: float | None = None  # when its worker was lost; None once its picture moves again
    seen_more: bool = False  # viewers at other gateways may have seen more of the worker that was lost
    failovers: int = 0  # consecutive ones, while it was being generated
    held: bool = False  # a suspect that is not restored before others have proved themselves (see probation)
    blame: int = 0  # how often its worker died while it alone was on trial
    internal: set[str] = field(default_factory=set)  # ids of controls that no client sent
    throttled: bool = False  # its client has used up its share of the device
    elsewhere: int = 0  # viewers at other gateways
    lost_frames: tuple[int, ...] = ()  # see SessionInfo
    dormant: bool = False  # resumed from outside and not watched since, so it generates nothing at all
    token: str | None = field(default=None, repr=False)
    view_token: str | None = field(default=None, repr=False)

    @property
    def token_hashes(self) -> list[str]:
        """Without those of links."""
        return [each for each in (self.token_hash, self.view_token_hash) if each is not None]

    def accepts(self, token: str, now_s: float) -> Role | None:
        """What the holder of this token may do; an empty one means none. None: nothing."""
        if self.token_hash is None:
            return "owner"
        given = hash_of(token)
        if same_hash(given, self.token_hash):
            return "owner"
        if same_hash(given, self.view_token_hash):
            return "viewer"
        link = self.links.find(given, now_s)
        return link.role if link is not None else None

    def learn(self, hashes: tuple[str, str] | None) -> None:
        """Its owner says who may use it, with other links. None: not said."""
        self.links.clear()
        if hashes is not None and self.token_hash is not None:
            self.token_hash, self.view_token_hash = hashes

    def tell_tokens(self) -> tuple[str | None, str | None]:
        """The tokens for steering and watching, for whoever opened it. They are forgotten here."""
        told = self.token, self.view_token
        self.token = self.view_token = None
        return told

    @property
    def viewers(self) -> int:
        """The number of its viewers, at all gateways."""
        return self.fanout.count + self.elsewhere

    @property
    def asleep(self) -> bool:
        """Paused or unwatched, so it uses no device time after the grace period."""
        return self.info.paused or not self.viewers

    def overdue(self, now_s: float, period_s: float) -> bool:
        """Whether it is watched and not paused, but has shown nothing new for too long. On a fast device a
        segment takes `period_s`."""
        moves = not (self.asleep or self.orphaned or self.throttled)
        told = self.buffering or self.stats
        usual_s = period_s / max(0.001, min(1.0, told.speed if told else 1.0))
        return moves and now_s - self.fine_until_s > max(OVERDUE_S, OVERDUE_PERIODS * usual_s)

    def audience(self) -> SetViewers:
        """The viewers that the worker is told about: none while the session is throttled."""
        stops = self.throttled or (self.dormant and not self.viewers)
        return SetViewers(self.id, {} if stops else self.fanout.viewers, stops, self.fanout.count)

    def watched(self, now_s: float) -> None:
        """A viewer has joined or left."""
        self.used_s, self.dormant = now_s, self.dormant and not self.viewers
        if self.viewers == 1:  # the first viewer: generation starts again
            self.fine_until_s = max(self.fine_until_s, now_s)

    def answer_to(self, control: Control) -> Receipt | None:
        """The latest receipt of a control that was already sent, None for a new one. A different control with
        the same id is rejected, since its sender would mistake the receipt for its own."""
        known = self.answers.get(control.id)
        if known is None or self.contents.get(control.id) in (None, digest(control.body)):
            return known
        text = "this id belongs to another control: send a new id, or none"
        return Receipt(self.id, control.id, "rejected", code="id_reused", message=text)

    def received(self, control: Control, now_s: float) -> Receipt:
        """Record that the control was sent to the worker. Returns the `received` receipt."""
        self.recovery.submitted(control)
        self.contents[control.id] = digest(control.body)
        receipt = Receipt(self.id, control.id, "received")
        self.remember(receipt)
        self.received_s[control.id] = self.used_s = now_s
        return receipt

    def shows(self, worker: str, packet: Packet, frames: int, now_s: float) -> bool:
        """Whether the packet is shown to viewers: each frame is shown once, by one worker. Its segment has
        `frames` frames."""
        left = self.handover
        if worker == self.worker:
            self.arrived()
        elif left is None or worker != left.worker or packet.segment > left.segment:
            return False
        self.progress.packet(packet, frames, now_s)
        return True

    def arrived(self) -> None:
        """Its worker shows it now."""
        if self.handover is not None:
            self.handover.arrived.set()
            self.handover = None

    def refuse(self, error: PsistreamError) -> None:
        """The session will not be opened. Ignored once it is open."""
        self.declined(error)
        _fail(self.opened, error)

    def assigned(self, worker: str, now_s: float) -> None:
        """This worker has been asked to open it."""
        self.worker, self.placed_s = worker, now_s
        self.verdict = asyncio.get_running_loop().create_future()

    def declined(self, error: PsistreamError) -> None:
        """Its worker refused to open it; another one may accept."""
        _fail(self.verdict, error)

    def changed(self, info: SessionInfo, now_s: float) -> None:
        """The worker reported a change, or that the session is open."""
        self.info, self.fine_until_s = info, max(self.fine_until_s, now_s)
        for waiting in (self.verdict, self.opened):
            if not waiting.done():
                waiting.set_result(None)

    def played(self, stats: SegmentStats, now_s: float, plays_s: float) -> tuple[int, int]:
        """A segment has started to play; it lasts `plays_s` at natural speed. Returns the number of late
        segments and of dropped frames since the last call."""
        before, self.stats, self.fine_until_s = self.stats, stats, now_s + plays_s / stats.rate
        self.segment_shown.set()
        self.recovery.played(stats)
        late = stats.late_total - (before.late_total if before else 0)
        return late, stats.dropped_frames_total - (before.dropped_frames_total if before else 0)

    def stall(self, buffering: Stall | None, now_s: float) -> None:
        """The picture stalls, or moves again (None)."""
        self.buffering, self.told_s = buffering, now_s
        self.fine_until_s = max(self.fine_until_s, now_s + (buffering.resumes_in_s if buffering else 0.0))

    def current(self, now_s: float) -> SessionInfo:
        """Its information as of the segment on the screen."""
        info = replace(self.info, viewers=self.viewers, lost_frames=self.lost_frames)
        if self.stats is not None and self.stats.segment > info.segment:
            info = replace(info, segment=self.stats.segment, frame=self.stats.frame, epoch=self.stats.epoch)
        if self.buffering is not None:
            remaining_s = max(0.0, self.buffering.resumes_in_s - (now_s - self.told_s))
            info = replace(info, buffering=replace(self.buffering, resumes_in_s=remaining_s))
        return info

    def remember(self, receipt: Receipt) -> None:
        """Store the latest receipt of an id. Beyond REMEMBERED_ANSWERS the oldest are forgotten."""
        self.answers[receipt.id] = receipt
        if len(self.answers) > REMEMBERED_ANSWERS:
            forgotten, _ = self.answers.popitem(last=False)
            self.received_s.pop(forgotten, None)
            self.contents.pop(forgotten, None)

    @property
    def apart(self) -> tuple[int, ...]:
        """What only this copy has: see SessionProgress."""
        return self.progress.apart(answer.frame for answer in self.answers.values())

    def remember_time(self, frame: int, pts_90k: int) -> None:
        self.times[frame] = pts_90k
        if len(self.times) > REMEMBERED_TIMES:
            self.times.popitem(last=False)

    def pts_of(self, frame: int) -> int | None:
        return self.times.get(frame)


def _fail(waiting: asyncio.Future[None], error: PsistreamError) -> None:
    if not waiting.done():
        waiting.set_exception(error)
        waiting.exception()  # mark it as retrieved, in case nobody is waiting


def digest(body: ControlBody) -> bytes:
    """SHA-256 of a control's content, without its id and expiry."""
    if isinstance(body, Image):
        return hashlib.sha256(body.when.encode() + body.pixels.tobytes()).digest()
    return hashlib.sha256(repr(body).encode()).digest()


def new_session(
    info: SessionInfo,
    origin: OpenSession,
    *,
    shared: bool,
    client: str | None,
    now_s: float,
    on_viewers: Callable[[dict[str, int]], None],
    on_keyframe: Callable[[str], None],
    hashes: tuple[str, str] | None = None,
) -> GatewaySession:
    """`shared` makes a session without tokens; `hashes` are those of the tokens that it has already. The
    callbacks are passed to the session's Fanout."""
    loop = asyncio.get_running_loop()
    tokens = None if shared or hashes else (unguessable(24), unguessable(24))
    if tokens:
        hashes = hash_of(tokens[0]), hash_of(tokens[1])
    return GatewaySession(
        id=info.id,
        token_hash=hashes[0] if hashes and not shared else None,
        view_token_hash=hashes[1] if hashes and not shared else None,
        token=tokens[0] if tokens else None,
        view_token=tokens[1] if tokens else None,
        client=client,
        fanout=Fanout(on_viewers, on_keyframe),
        worker="",
        info=info,
        recovery=RecoveryRecord(origin),
        opened=loop.create_future(),
        verdict=loop.create_future(),
        fine_until_s=now_s,
        used_s=now_s,
    )
