"""Shared data types: controls, and events of the runtime. No behaviour and no heavy imports.

Legend: F pixel frames of one segment (4 W), H W pixels. Times come from one injected monotonic clock.
What passes between a gateway and a worker is here and in server.worker.messages; server.worker.wire says how.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
ByteArray = npt.NDArray[np.uint8]

MOMENT = "a moment of this host's monotonic clock"  # between hosts it is the time that is left until then
Moment = Annotated[float, MOMENT]

How = Literal["recondition", "soft", "cut"]
When = Literal["next", "now"]
Status = Literal["received", "applied", "rejected"]


# ---- controls: changes of a session, valid once engine.wire has parsed them ----


@dataclass(frozen=True)
class Weighted:
    """A text and its weight, above 0; only ratios of weights matter."""

    text: str
    weight: float = 1.0


Prompts = tuple[Weighted, ...]


@dataclass(frozen=True)
class Prompt:
    """A new text, or several with weights.

    `recondition` keeps the scene and rebuilds ψ; `soft` cross-fades to the new text over
    `transition_segments` segments; `cut` starts a new scene. `next` takes effect with the next segment that
    is generated, `now` at once: queued frames are dropped and generated again."""

    text: str | tuple[Weighted, ...]
    how: How = "recondition"
    when: When = "next"
    transition_segments: int = 4


@dataclass(frozen=True)
class Action:
    """The action held from now on, one of the model's. None releases it, and the prompt's own motion applies
    again."""

    action: str | None


@dataclass(frozen=True)
class Pause:
    pass


@dataclass(frozen=True)
class Resume:
    pass


@dataclass(frozen=True)
class Reset:
    """Start again from the current prompt. A new seed gives another world."""

    seed: int | None = None
    when: When = "next"


@dataclass(frozen=True)
class Image:
    """Cut to a scene that starts from this picture: (3, H, W) uint8 of the model's size."""

    pixels: ByteArray
    when: When = "next"


@dataclass(frozen=True)
class Rewind:
    """Go back to what was on the screen `seconds` ago, or as far as is kept, and continue from there at
    once."""

    seconds: float


ControlBody = Prompt | Action | Pause | Resume | Reset | Image | Rewind


@dataclass(frozen=True)
class Control:
    """`id` is the sender's; a session answers each id once. A control that would take effect after
    `expires_s` is refused as expired."""

    id: str
    body: ControlBody
    expires_s: Moment | None = None


# ---- events of the runtime ----


@dataclass(frozen=True)
class Receipt:
    """`received` at once, then `applied` with the first segment and frame that show the control; or
    `rejected`."""

    session: str
    id: str
    status: Status
    segment: int | None = None
    frame: int | None = None
    code: str | None = None
    message: str | None = None


@dataclass(frozen=True)
class SegmentReady:
    """One generated segment. `due_s` is when its first frame is to be shown (monotonic clock). At `rate` 1
    the others follow at the model's frame rate, at 0.5 half as fast."""

    session: str
    epoch: int
    segment: int
    first_frame: int
    due_s: float
    frames: ByteArray  # (F, H, W, 3) RGB
    timings_ms: dict[str, float] = field(default_factory=dict)  # denoise, decode, memory, total
    lead_s: float = 0.0  # how far ahead of playout the segment was ready; negative means late
    late_total: int = 0
    speed: float = 1.0  # seconds of video that the session receives per second of generating
    rate: float = 1.0


@dataclass(frozen=True)
class Discarded:
    """Frames after `segment` are no longer wanted. The next segment has the new `epoch`."""

    session: str
    epoch: int
    segment: int


@dataclass(frozen=True)
class SegmentAwaited:
    """The next segment will be late: it is expected to be shown at `due_s` (monotonic clock). None: no
    segment is expected, since the session is paused or unwatched."""

    session: str
    due_s: float | None
    speed: float
    rate: float


@dataclass(frozen=True)
class Stall:
    """The picture stalls because the device is slow. The video is expected to resume in `resumes_in_s`, at
    `rate`. `speed` is seconds of video per second of generating."""

    speed: float
    rate: float
    resumes_in_s: float


@dataclass(frozen=True)
class NamedLandmark:
    """A landmark that a prompt named. `px` is its distance to the right of the hero in pixels (negative: to
    the left) at the end of the generated video. `met`: it has been in the picture."""

    kind: str
    colour: str
    px: int
    met: bool


@dataclass(frozen=True)
class SessionInfo:
    """What everyone who may watch a session may know about it. On the wire, `buffering` means a stall."""

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
    buffering: Stall | None = None
    past_bytes: int = 0  # upper bound of what is kept for `now` and rewinding
    actions: tuple[str, ...] = ()  # the model's; empty: not known yet
    attributes: dict[str, str] = field(default_factory=dict)  # those that are known of the scene
    chosen: tuple[str, ...] = ()  # the attributes that no prompt gave and the seed chose
    landmarks: tuple[NamedLandmark, ...] = ()  # named by prompts in this scene, from left to right
    lost_frames: tuple[
        int, ...
    ] = ()  # the first one of a gap that a restart left, and the first one after it


@dataclass(frozen=True)
class SessionClosed:
    """The session has ended; `code` is 'closed' or the reason. If its opening was refused, `field` is the
    field at fault and `retry_after_s` says when to try again, if they are known. `epoch` is the lease epoch
    of the copy that has ended (see server.worker.hosting.leases); 0: not known. `lost_frames`: the session
    goes on, without these frames and what was steered in them: the first one, and the first one after."""

    session: str
    code: str
    message: str
    field: str | None = None
    retry_after_s: int | None = None
    epoch: int = 0
    lost_frames: tuple[int, ...] = ()


@dataclass(frozen=True)
class Capacity:
    """How many sessions the device can serve in real time according to measurements, how many are open, the
    share of the device's time that they use, and how many places they take: one for each that plays, and a
    share of one for each that sleeps. Sent when a number changes, and at intervals."""

    sessions: int
    open: int
    load: float
    taken: int = 0


RuntimeEvent = Receipt | SegmentReady | Discarded | SegmentAwaited | SessionInfo | SessionClosed | Capacity


# ---- gateway → worker ----


@dataclass(frozen=True)
class OpenSession:
    """Open a session: from a prompt and optionally a picture or a video; from a snapshot; or as a fork of the
    open session `fork_of`, from what it showed `rewind_s` ago. A snapshot and a fork keep their prompt and
    seed if these are None."""

    session: str
    prompt: str | tuple[Weighted, ...] | None
    seed: int | None
    image: ByteArray | None = None  # (3, H, W) uint8
    video: ByteArray | None = None  # (1 + T, 3, H, W) uint8: a clip's first frame, and its last ones
    snapshot: bytes | None = None
    fork_of: str | None = None
    rewind_s: float = 0.0

    @property
    def is_new(self) -> bool:
        """Whether its state is known without a device: not a fork, and not from a video."""
        return self.fork_of is None and self.video is None
