"""Commands from the gateway to a worker. Plain data.

Controls also cross this boundary; the engine uses them too, so they are in engine.types. Times are durations,
since the two may be on different hosts. server.worker.wire has the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.types import Control, OpenSession
from server.worker.messages.holding import (
    Answered,
    ClaimSession,
    EndCopy,
    KeepRecord,
    LeaveSession,
    Moved,
    WatchSession,
)


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
    """`epoch`: with which the session is held as far as a guest knows. If that is over, the worker drops the
    control: the guest sends all again that it keeps once it is told. 0: from the owner, or not said."""

    session: str
    control: Control
    epoch: int = 0


@dataclass(frozen=True)
class CloseSession:
    """Ends the copy that the sender holds; see EndCopy for the copies of others."""

    session: str


@dataclass(frozen=True)
class SetViewers:
    """The number of viewers per rendition: 'vp8' and 'h264' are the best quality, 'vp8/1' is one rung below.
    Without viewers nothing is encoded, and after a grace period nothing is generated. A `throttled` session
    stops at once. `count` is the number of viewers: one that changes rungs watches two renditions."""

    session: str
    viewers: dict[str, int]
    throttled: bool = False
    count: int = 0


@dataclass(frozen=True)
class RequestKeyframe:
    session: str
    rendition: str


@dataclass(frozen=True)
class MeasureCodec:
    """Asks how long this codec takes to encode on the worker's machine. The answer is CodecMeasured, once
    for each codec."""

    codec: Literal["vp8", "h264", "vp9", "av1"]


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
    | EndCopy
    | KeepRecord
    | WatchSession
    | LeaveSession
    | Answered
    | Moved
    | MeasureCodec
    | Stop
)
