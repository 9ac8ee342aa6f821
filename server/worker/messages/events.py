"""Events from a worker to the gateway, besides receipts, session information and capacity, which are in
engine.types. Plain data; see commands.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.types import Capacity, Receipt, SessionClosed, SessionInfo, Stall
from server.worker.messages.holding import (
    Answered,
    Claimed,
    Fenced,
    Moved,
    Orphaned,
    OtherViewers,
    Submitted,
    Watched,
)


@dataclass(frozen=True)
class Exported:
    """The answer to ExportSession: `data`, or None with the error's code and message. A snapshot contains all
    segments up to `segment` (-1: none), which stays on the screen for another `remaining_s` seconds."""

    session: str
    request: str
    data: bytes | None
    code: str | None = None
    message: str | None = None
    segment: int = -1
    remaining_s: float = 0.0
    end_90k: int = 0  # the media time at which that segment ends


@dataclass(frozen=True)
class WorkerReady:
    """The model is loaded and warmed up. Carries the model's geometry and actions."""

    model: str
    backend: str
    height: int
    width: int
    fps: int
    frames_per_segment: int
    start_frames: int  # of a video, as many as a start can use
    actions: tuple[str, ...]
    state_bytes: int
    max_sessions: int
    segment_ms: float  # time to generate one segment alone, measured by the warm-up
    fingerprint: str = ""  # of the weights: sessions can move between workers with the same one
    bitrate_bps: int | None = None  # of the top rung; None: as the picture's size has it
    idle_share: float = 0.0  # of a place, which it reserves for each sleeping session
    codecs: tuple[str, ...] = ()  # that it may encode; empty: it does not say
    instance: str = ""  # of a worker that listens: another one for each process; empty: it does not say

    @property
    def segment_s(self) -> float:
        """How long a segment plays at natural speed."""
        return self.frames_per_segment / self.fps

    @property
    def period_s(self) -> float:
        """Time between two segments of a session that has the device for itself."""
        return max(self.segment_s, self.segment_ms / 1000)


@dataclass(frozen=True)
class CodecMeasured:
    """The share of one core that one rung of one session takes; None if it cannot be encoded, with the
    reason."""

    codec: str
    share: float | None
    message: str = ""


@dataclass(frozen=True)
class Packet:
    """One encoded frame for all viewers of a session with this codec and rung. Rung 0 is the best quality."""

    session: str
    codec: str
    epoch: int
    segment: int
    frame: int
    pts_90k: int
    keyframe: bool
    data: bytes
    rung: int = 0


@dataclass(frozen=True)
class SegmentStats:
    """Figures of one segment for the page and for metrics, sent when its first frame is shown."""

    session: str
    epoch: int
    segment: int
    frame: int
    timings_ms: dict[str, float]
    lead_ms: float
    late_total: int
    dropped_frames_total: int
    state_bytes: int
    encode_ms: float
    speed: float = 1.0
    rate: float = 1.0
    pts_90k: int = 0  # media time of its first frame


@dataclass(frozen=True)
class Stalled:
    """The picture of a session stalls, or moves again (None). An owner that throttles it tells guests."""

    session: str
    stall: Stall | None


@dataclass(frozen=True)
class Hung:
    """A device call has been running for `for_s`, far longer than usual. None: it returned."""

    for_s: float | None


WorkerEvent = (
    WorkerReady
    | Packet
    | SegmentStats
    | Stalled
    | Receipt
    | SessionInfo
    | SessionClosed
    | Exported
    | Capacity
    | CodecMeasured
    | Hung
    | Orphaned
    | Claimed
    | Fenced
    | Watched
    | Submitted
    | Answered
    | Moved
    | OtherViewers
)
