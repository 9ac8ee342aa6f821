"""Commands from the gateway to a worker, and events from a worker to the gateway. Plain, picklable data.

Controls, receipts and session information also cross this boundary; the engine uses them too, so they are in
engine.types. Times come from one monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.types import Capacity, Control, OpenSession, Receipt, SessionClosed, SessionInfo, Stall

# ---- gateway → worker: these, and OpenSession ----


@dataclass(frozen=True)
class ExportSession:
    """Requests a snapshot of what is on the screen, or was `rewind_s` seconds ago (safetensors), or the
    control log (JSON Lines). The answer is one Exported with the same `request`."""

    session: str
    request: str
    what: Literal["snapshot", "log"]
    rewind_s: float = 0.0


@dataclass(frozen=True)
class SubmitControl:
    session: str
    control: Control


@dataclass(frozen=True)
class CloseSession:
    session: str


@dataclass(frozen=True)
class SetViewers:
    """The number of viewers per rendition: 'vp8' and 'h264' are the best quality, 'vp8/1' is one rung below.
    Without viewers nothing is encoded, and after a grace period nothing is generated. A `throttled` session
    stops at once."""

    session: str
    viewers: dict[str, int]
    throttled: bool = False


@dataclass(frozen=True)
class RequestKeyframe:
    session: str
    rendition: str


@dataclass(frozen=True)
class Stop:
    pass


Command = OpenSession | SubmitControl | ExportSession | CloseSession | SetViewers | RequestKeyframe | Stop


# ---- worker → gateway: these, and Receipt, SessionInfo, SessionClosed, Capacity ----


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


@dataclass(frozen=True)
class WorkerFailed:
    code: str
    message: str


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


@dataclass(frozen=True)
class Stalled:
    """The picture of a session stalls, or moves again (None)."""

    session: str
    stall: Stall | None


@dataclass(frozen=True)
class Hung:
    """A device call has been running for `for_s`, far longer than usual. None: it returned."""

    for_s: float | None


WorkerEvent = (
    WorkerReady
    | WorkerFailed
    | Packet
    | SegmentStats
    | Stalled
    | Receipt
    | SessionInfo
    | SessionClosed
    | Exported
    | Capacity
    | Hung
)
