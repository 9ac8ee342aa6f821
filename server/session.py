"""What the gateway keeps of one session: who may use it, who watches, what was answered.

The video itself, its prompt and its state are the worker's; this is bounded in every part.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field, replace

from engine.types import Receipt, SegmentStats, SessionInfo
from server.media.fanout import Fanout

REMEMBERED_ANSWERS = 1024
REMEMBERED_TIMES = 256
STALLED_S = 10.0


@dataclass
class Session:
    """`token` steers, `view_token` watches; None: everybody may, which only a server on loopback grants."""

    id: str
    token: str | None
    view_token: str | None
    fanout: Fanout
    info: SessionInfo
    opened: asyncio.Future[None]
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    stats: SegmentStats | None = None
    moved_s: float = 0.0  # when a segment was played, or playing began
    used_s: float = 0.0  # when it was last steered, or watched
    answers: OrderedDict[str, Receipt] = field(default_factory=OrderedDict)
    received_s: dict[str, float] = field(default_factory=dict)  # of controls that wait
    times: OrderedDict[int, int] = field(default_factory=OrderedDict)  # frame → pts_90k

    def stalled(self, now_s: float) -> bool:
        """Watched and not paused, but nothing new for long."""
        return bool(self.fanout.count) and not self.info.paused and now_s - self.moved_s > STALLED_S

    def current(self) -> SessionInfo:
        """As of the segment on screen."""
        info = replace(self.info, viewers=self.fanout.count)
        if self.stats is not None and self.stats.segment > info.segment:
            info = replace(info, segment=self.stats.segment, frame=self.stats.frame, epoch=self.stats.epoch)
        return info

    def remember(self, receipt: Receipt) -> None:
        """The latest receipt of an id. Beyond the limit the oldest are forgotten."""
        self.answers[receipt.id] = receipt
        if len(self.answers) > REMEMBERED_ANSWERS:
            forgotten, _ = self.answers.popitem(last=False)
            self.received_s.pop(forgotten, None)

    def remember_time(self, frame: int, pts_90k: int) -> None:
        self.times[frame] = pts_90k
        if len(self.times) > REMEMBERED_TIMES:
            self.times.popitem(last=False)

    def pts_of(self, frame: int) -> int | None:
        return self.times.get(frame)


def new_session(info: SessionInfo, fanout: Fanout, *, shared: bool, now_s: float) -> Session:
    """`shared`: without tokens."""
    return Session(
        id=info.id,
        token=None if shared else secrets.token_urlsafe(24),
        view_token=None if shared else secrets.token_urlsafe(24),
        fanout=fanout,
        info=info,
        opened=asyncio.get_running_loop().create_future(),
        moved_s=now_s,
        used_s=now_s,
    )
