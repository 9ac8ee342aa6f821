"""Commands from the gateway to a worker, and events from a worker to the gateway. Plain data.

Controls, receipts and session information also cross this boundary; the engine uses them too, so they are in
engine.types. Times are durations, since the two may be on different hosts. server.worker.wire has the bytes.
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
class ClaimSession:
    """Makes a running session this gateway's, if `epoch` is higher than the one it is held with. The answer
    is Claimed, Fenced, or SessionClosed if there is no such session."""

    session: str
    epoch: int


@dataclass(frozen=True)
class KeepRecord:
    """What the next gateway is to know of this session, should this one be gone: at most 64 KiB."""

    session: str
    record: bytes


@dataclass(frozen=True)
class Stop:
    pass


Command = (
    OpenSession
    | SubmitControl
    | ExportSession
    | CloseSession
    | SetViewers
    | RequestKeyframe
    | ClaimSession
    | KeepRecord
    | Stop
)


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


@dataclass(frozen=True)
class Orphaned:
    """No gateway has been heard of that holds this session; whoever claims it with a higher epoch has it."""

    session: str
    epoch: int


@dataclass(frozen=True)
class Claimed:
    """The session is this gateway's now: how it is, and the record of its last one."""

    session: str
    epoch: int
    info: SessionInfo | None
    record: bytes


@dataclass(frozen=True)
class Fenced:
    """Another gateway holds this session, with this epoch: the order was not carried out, and nothing more
    is sent about it."""

    session: str
    epoch: int


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
    | Orphaned
    | Claimed
    | Fenced
)
