"""Messages about who holds a session, where several gateways use the same worker: the owner holds and steers
it, guests only show it to their viewers. Plain data; see commands.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.types import Control, Receipt, SessionInfo

# ---- gateway → worker; the worker passes Answered and Moved on to guests ----


@dataclass(frozen=True)
class ClaimSession:
    """Makes a running session this gateway's, if `epoch` is higher than the one it is held with. The answer
    is Claimed, once the session is open, Fenced, or SessionClosed if there is no such session, or its last
    gateway has closed it."""

    session: str
    epoch: int


@dataclass(frozen=True)
class EndCopy:
    """The session goes on elsewhere with this epoch, or has been closed for good (see epochs): the worker
    ends its copy if that is older, whoever holds it, and remembers what has been closed."""

    session: str
    epoch: int


@dataclass(frozen=True)
class KeepRecord:
    """What the next gateway is to know of this session, should this one be gone: at most 64 KiB."""

    session: str
    record: bytes


@dataclass(frozen=True)
class WatchSession:
    """From a gateway that shows a session without holding it, a guest: how many of its viewers watch each
    rendition, as in SetViewers. Sent again at each change. The answer is Watched, or SessionClosed if it is
    refused."""

    session: str
    viewers: dict[str, int]
    count: int = 0


@dataclass(frozen=True)
class LeaveSession:
    """The guest shows the session no more."""

    session: str


@dataclass(frozen=True)
class Answered:
    """The owner's answer to a guest's control, unless it is `received`. The worker passes it on."""

    session: str
    receipt: Receipt


@dataclass(frozen=True)
class Moved:
    """The session goes on in another worker, with this epoch, after `segment`. From the owner to the worker
    that it leaves, which passes it on to the guests."""

    session: str
    segment: int
    epoch: int


# ---- worker → gateway ----


@dataclass(frozen=True)
class Orphaned:
    """No gateway has been heard of that holds this session; whoever claims it with a higher epoch has it."""

    session: str
    epoch: int


@dataclass(frozen=True)
class Claimed:
    """The session is this gateway's now: how it is, and the record of its last one. The last segment that was
    shown (-1: none is known), its first frame, and the media time now: it must not continue below."""

    session: str
    epoch: int
    info: SessionInfo | None
    record: bytes
    segment: int = -1
    frame: int = 0
    media_90k: int = 0


@dataclass(frozen=True)
class Fenced:
    """Another gateway holds this session, with this epoch, or it has been closed for good (see epochs). To
    whoever ordered something: it was not carried out. To whoever held it: nothing more is sent about it. To
    the other gateways: one of them may hold another copy, of which the older one is to end. `elsewhere`: it
    is in another worker with this epoch, and has been ended here."""

    session: str
    epoch: int
    elsewhere: bool = False


@dataclass(frozen=True)
class Watched:
    """The gateway is a guest of this session now: how it is, and the record of its owner. Sent again when
    another gateway has claimed the session."""

    session: str
    epoch: int
    info: SessionInfo
    record: bytes


@dataclass(frozen=True)
class Submitted:
    """To a session's owner: a control from a guest. The owner treats it as one of its own viewers'."""

    session: str
    control: Control


@dataclass(frozen=True)
class OtherViewers:
    """How many viewers other gateways have."""

    session: str
    count: int
