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

How = Literal["recondition", "soft", "cut"]
When = Literal["next", "now"]
Status = Literal["received", "applied", "rejected"]


# ---- controls: one validated change of a session, whatever channel it came by ----


@dataclass(frozen=True)
class Weighted:
    """A text and how much it counts beside others, above 0; only ratios matter."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True)
class Prompt:
    """A new text, or several that count by their weights.

    `recondition` keeps the scene and re-squeezes ψ; `soft` does so in `transition_segments` steps from the
    old text to the new; `cut` starts a new scene. `next` takes hold with the next segment that is made,
    `now` on the screen at once: what is queued is dropped and made again."""

    text: str | tuple[Weighted, ...]
    how: How = "recondition"
    when: When = "next"
    transition_segments: int = 4


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
    when: When = "next"


@dataclass(frozen=True)
class Image:
    """Cut to a scene that starts from this picture: (3, H, W) uint8 at the model's size."""

    pixels: ByteArray
    when: When = "next"


@dataclass(frozen=True)
class Rewind:
    """Go back to what was on the screen `seconds` ago, as far as is kept, and go on from there at once."""

    seconds: float


ControlBody = Prompt | Action | Pause | Resume | Reset | Image | Rewind


@dataclass(frozen=True)
class Control:
    """`id` is the sender's; a session answers each id once. After `expires_s` (monotonic clock) it is refused
    as expired instead of taking effect."""

    id: str
    body: ControlBody
    expires_s: float | None = None


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
class Discarded:
    """What waits to be shown after `segment` is no longer wanted; what comes next is of `epoch`."""

    session: str
    epoch: int
    segment: int


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
    past_bytes: int = 0  # what is kept at most for `now` and rewinding


@dataclass(frozen=True)
class SessionClosed:
    """The session is over; `code` is 'closed', or why it failed. One that was refused says for which `field`
    of its opening, and when to try again, where that can be said."""

    session: str
    code: str
    message: str
    field: str | None = None
    retry_after_s: int | None = None


@dataclass(frozen=True)
class Exported:
    """The answer to ExportSession: `data`, or None with the code and message of what prevented it."""

    session: str
    request: str
    data: bytes | None
    code: str | None = None
    message: str | None = None


@dataclass(frozen=True)
class Capacity:
    """How many sessions the device can serve in real time, as measured so far, how many there are, and the
    share of the device's time that these take. Said when it changes by a session, and now and then."""

    sessions: int
    open: int
    load: float


RuntimeEvent = (
    Receipt | SegmentReady | Discarded | SegmentAwaited | SessionInfo | SessionClosed | Exported | Capacity
)


# ---- gateway → worker ----


@dataclass(frozen=True)
class OpenSession:
    """A new video: from a prompt, maybe a picture; or from a snapshot; or a second future of an open session,
    `fork_of`, from what it showed `rewind_s` ago. What a past has, prompt and seed, None keeps."""

    session: str
    prompt: str | tuple[Weighted, ...] | None
    seed: int | None
    image: ByteArray | None = None  # (3, H, W) uint8
    snapshot: bytes | None = None
    fork_of: str | None = None
    rewind_s: float = 0.0


@dataclass(frozen=True)
class ExportSession:
    """Asks for a snapshot of what is on the screen (safetensors), or for the control log (JSON Lines);
    answered by one Exported with the same `request`."""

    session: str
    request: str
    what: Literal["snapshot", "log"]


@dataclass(frozen=True)
class SubmitControl:
    session: str
    control: Control


@dataclass(frozen=True)
class CloseSession:
    session: str


@dataclass(frozen=True)
class SetViewers:
    """How many watch, per codec ('vp8', 'h264'). Without viewers there is no encoding and soon no generation;
    none at once where the session is `throttled`."""

    session: str
    viewers: dict[str, int]
    throttled: bool = False


@dataclass(frozen=True)
class RequestKeyframe:
    session: str
    codec: str


@dataclass(frozen=True)
class Stop:
    pass


Command = OpenSession | SubmitControl | ExportSession | CloseSession | SetViewers | RequestKeyframe | Stop


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
class Stalled:
    """The picture of a session stalls, and for how long; or it goes on again (None)."""

    session: str
    buffering: Buffering | None


@dataclass(frozen=True)
class Hangs:
    """One call of the device takes far longer than any before: for `for_s` now. None: it came back."""

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
    | Hangs
)
