"""Shared nouns: what travels between runtime, worker and gateway. No behaviour, no heavy import.

Legend: F pixel frames of one segment (4 W), H W pixels. Times come from one injected monotonic clock.
All of these are picklable, since worker and gateway may be two processes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
ByteArray = npt.NDArray[np.uint8]

How = Literal["recondition", "cut"]
Status = Literal["received", "applied", "rejected"]


# ---- controls: one validated change of a session, whatever channel it came by ----


@dataclass(frozen=True)
class Prompt:
    """A new text. `recondition` keeps the scene and re-squeezes ψ; `cut` starts a new scene."""

    text: str
    how: How = "recondition"


@dataclass(frozen=True)
class Action:
    """The action held from now on; None lets go, and the prompt's own motion counts again."""

    action: str | None


@dataclass(frozen=True)
class Pause:
    pass


@dataclass(frozen=True)
class Resume:
    pass


@dataclass(frozen=True)
class Reset:
    """Start again from the current prompt; a new seed gives another world."""

    seed: int | None = None


@dataclass(frozen=True)
class Image:
    """Cut to a scene that starts from this picture: (3, H, W) uint8 at the model's size."""

    pixels: ByteArray


ControlBody = Prompt | Action | Pause | Resume | Reset | Image


@dataclass(frozen=True)
class Control:
    """`id` is the sender's; a session answers each id once."""

    id: str
    body: ControlBody


# ---- from the runtime: what happened in a session ----


@dataclass(frozen=True)
class Receipt:
    """`received` at once, `applied` with the first segment and frame that show it, or `rejected`."""

    session: str
    id: str
    status: Status
    segment: int | None = None
    frame: int | None = None
    code: str | None = None
    message: str | None = None


@dataclass(frozen=True)
class SegmentReady:
    """One generated segment. `due_s` is when its first frame is to be shown (monotonic clock); at `rate` 1
    the others follow at the model's frame rate, at 0.5 half as fast."""

    session: str
    epoch: int
    segment: int
    first_frame: int
    due_s: float
    frames: ByteArray  # (F, H, W, 3) RGB
    timings_ms: dict[str, float] = field(default_factory=dict)  # denoise, decode, memory, total
    lead_s: float = 0.0  # how far ahead of playout it was ready; negative means late
    late_total: int = 0
    speed: float = 1.0  # seconds of video that this session gets per second of generating
    rate: float = 1.0


@dataclass(frozen=True)
class SegmentAwaited:
    """The next segment will not be there in time: it is expected to be shown at `due_s` (monotonic clock).
    None: none is made for now, the session is paused or unwatched."""

    session: str
    due_s: float | None
    speed: float
    rate: float


@dataclass(frozen=True)
class Buffering:
    """The picture stands because the device needs longer: `resumes_in_s` from when this is told, the video is
    expected to go on, at `rate`. `speed` is seconds of video per second of generating."""

    speed: float
    rate: float
    resumes_in_s: float


@dataclass(frozen=True)
class SessionInfo:
    """What an onlooker may know of a session."""

    id: str
    prompt: str
    seed: int
    paused: bool
    action: str | None
    epoch: int
    segment: int
    frame: int
    state_bytes: int
    viewers: int = 0
    buffering: Buffering | None = None


@dataclass(frozen=True)
class SessionClosed:
    """The session is over; `code` is 'closed', or why it failed."""

    session: str
    code: str
    message: str


RuntimeEvent = Receipt | SegmentReady | SegmentAwaited | SessionInfo | SessionClosed


# ---- gateway → worker ----


@dataclass(frozen=True)
class OpenSession:
    session: str
    prompt: str
    seed: int
    image: ByteArray | None = None  # (3, H, W) uint8


@dataclass(frozen=True)
class SubmitControl:
    session: str
    control: Control


@dataclass(frozen=True)
class CloseSession:
    session: str


@dataclass(frozen=True)
class SetViewers:
    """How many watch, per codec ('vp8', 'h264'). No viewers: no encoding, and soon no generation."""

    session: str
    viewers: dict[str, int]


@dataclass(frozen=True)
class RequestKeyframe:
    session: str
    codec: str


@dataclass(frozen=True)
class Stop:
    pass


Command = OpenSession | SubmitControl | CloseSession | SetViewers | RequestKeyframe | Stop


# ---- worker → gateway (and Receipt, SessionInfo, SessionClosed from above) ----


@dataclass(frozen=True)
class WorkerReady:
    """The model is loaded and one segment has run. Latent and pixel geometry for the gateway."""

    model: str
    backend: str
    height: int
    width: int
    fps: int
    frames_per_segment: int
    actions: tuple[str, ...]
    state_bytes: int
    max_sessions: int
    segment_ms: float  # measured at warm-up, batch 1


@dataclass(frozen=True)
class WorkerFailed:
    code: str
    message: str


@dataclass(frozen=True)
class Packet:
    """One encoded frame for all viewers of a session. `sent_s` is when it left the encoder."""

    session: str
    codec: str
    epoch: int
    segment: int
    frame: int
    pts_90k: int
    keyframe: bool
    data: bytes


@dataclass(frozen=True)
class SegmentStats:
    """The figures of one segment for panels and metrics, sent when its first frame is played."""

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
class Stands:
    """The picture of a session stands and why, or goes on again (None)."""

    session: str
    buffering: Buffering | None


WorkerEvent = (
    WorkerReady | WorkerFailed | Packet | SegmentStats | Stands | Receipt | SessionInfo | SessionClosed
)
