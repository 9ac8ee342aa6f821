"""What this gateway knows of a session of another gateway that it shows to its own viewers. Plain data."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from engine.types import Control
from server.gateway.fleet.supervisor import Supervisor
from server.gateway.session import GatewaySession
from server.worker.messages.events import Packet
from server.worker.messages.holding import Moved

MOST_PENDING = 64


@dataclass
class Guest:
    """`session` has the viewers, and what its owner's gateway would know of it too: a guest that claims the
    session goes on with it. `worker` sends news and video; None: it is looked for."""

    session: GatewaySession
    worker: Supervisor | None = None
    known: bool = False  # a worker has shown it once
    least_epoch: int = 0  # workers that run it with a lower one are out of date
    asked: set[str] = field(default_factory=set)  # workers that have not answered yet
    news: asyncio.Event = field(default_factory=asyncio.Event)  # set when one has
    settled: asyncio.Event = field(default_factory=asyncio.Event)  # found, or given up
    searching: bool = False
    searched: asyncio.Event = field(default_factory=asyncio.Event)  # set when a search has ended
    until_s: float = 0.0  # how long to search
    over: bool = False
    why: tuple[str, str] = ("unknown_session", "the session has ended")  # code and text if it is not found
    moved: Moved | None = None  # as its old worker said
    pending: dict[str, Control] = field(default_factory=dict)  # controls without a final receipt
    abandoned: bool = False  # its worker has said that nobody holds it, and of no new owner since
    renewed_s: float = 0.0  # when its worker last told how it is
    shown: tuple[str, int, int] = ("", -1, -1)  # the last frame, its media time, and which worker had it
    dropped: bool = False  # its copy was ended, perhaps since another one goes on

    def goes_back(self, worker: str, packet: Packet) -> bool:
        """Whether a worker's packet comes before what was shown, by its frame or its media time: a copy that
        began late may have skipped frames and still be behind. A worker may repeat its last frame."""
        last_worker, last, last_90k = self.shown
        again = packet.frame == last and worker != last_worker
        return packet.frame < last or packet.pts_90k < last_90k or again

    @property
    def found(self) -> bool:
        return self.worker is not None and self.session.lease_epoch >= self.least_epoch


def go_on_without(session: GatewaySession, frames: tuple[int, ...]) -> None:
    """Another copy goes on, which does not have these: clients are told, and may send again what was answered
    with one of them."""
    session.lost_frames = frames or session.lost_frames
    for answer in list(session.answers.values()):
        if frames and answer.frame in range(*frames):
            del session.answers[answer.id]
