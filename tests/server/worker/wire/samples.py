"""One message of every type that crosses the wire, with every field set."""

from __future__ import annotations

import numpy as np

from engine.types import (
    Action,
    Capacity,
    Control,
    ControlBody,
    Image,
    NamedLandmark,
    OpenSession,
    Pause,
    Prompt,
    Receipt,
    Reset,
    Resume,
    Rewind,
    SessionClosed,
    SessionInfo,
    Stall,
    Weighted,
)
from server.worker.base import Alive, Applied, Numbers, RestoreSession, WorkerLost
from server.worker.messages.commands import (
    CloseSession,
    ExportSession,
    MeasureCodec,
    RequestKeyframe,
    SetViewers,
    Stop,
    SubmitControl,
)
from server.worker.messages.events import (
    CodecMeasured,
    Exported,
    Hung,
    Packet,
    SegmentStats,
    Stalled,
    WorkerReady,
)
from server.worker.messages.holding import (
    Answered,
    Claimed,
    ClaimSession,
    EndCopy,
    Fenced,
    KeepRecord,
    LeaveSession,
    Moved,
    Orphaned,
    OtherViewers,
    Submitted,
    Watched,
    WatchSession,
)
from server.worker.wire.schema import Challenge, GreetingRefused, Hello, Proof, Welcome

READY = WorkerReady("fake", "fake", 4, 6, 16, 8, 24, ("idle", "left"), 1000, 3, 5.0, "abc", 900_000)
PICTURE = np.arange(72, dtype=np.uint8).reshape(3, 4, 6)
MIX = (Weighted("a red fox", 0.25), Weighted("ein grüner Hund, 狐", 3.0))
INFO = SessionInfo(
    "s",
    "a red fox",
    7,
    True,
    "left",
    1,
    2,
    16,
    1000,
    2,
    Stall(1.0, 0.5, 2.5),
    9,
    ("left",),
    {"time": "night"},
    ("time",),
    (NamedLandmark("tower", "red", -5, True),),
)
OPENING = OpenSession("s", MIX, 7, PICTURE, np.stack([PICTURE, PICTURE]), b"snapshot", "t", 2.5)
BODIES: tuple[ControlBody, ...] = (
    Prompt("a red fox", "soft", "now", 6),
    Prompt(MIX, "cut"),
    Action("left"),
    Action(None),
    Pause(),
    Resume(),
    Reset(8, "now"),
    Image(PICTURE, "now"),
    Rewind(2.5),
)
GREETINGS = (
    Hello(1, "0.1", b"n" * 32, "g1"),
    Challenge(1, "0.1", b"n" * 32, b"p" * 32),
    Proof(b"p" * 32),
    Welcome(READY, (Orphaned("s", 3),), (Fenced("t", 2),)),
    GreetingRefused("forbidden", "no"),
)
ORDERS = (
    OPENING,
    OpenSession("s", "a red fox", 7),
    *(SubmitControl("s", Control(f"c{n}", body)) for n, body in enumerate(BODIES)),
    RestoreSession(
        OpenSession("s", None, None, snapshot=b"x" * 300),
        (SetViewers("s", {"vp8": 1}), SubmitControl("s", Control("c", Pause()))),
        0.25,
        4,
        Numbers(1, 5, 40, 225_000),
    ),
    ExportSession("s", "x1", "snapshot", 2.0),
    CloseSession("s"),
    SetViewers("s", {"vp8": 2, "h264/1": 1}, throttled=True, count=3),
    RequestKeyframe("s", "vp8/1"),
    ClaimSession("s", 4),
    EndCopy("s", 4),
    KeepRecord("s", b"record"),
    WatchSession("s", {"vp8": 2, "h264/1": 1}, 2),
    LeaveSession("s"),
    Answered("s", Receipt("s", "c", "rejected", code="invalid", message="no")),
    Moved("s", 7, 5),
    Stalled("s", Stall(1.0, 0.5, 2.5)),
    MeasureCodec("av1"),
    Alive(),
    Stop(),
)
EVENTS = (
    Packet("s", "vp8", 1, 2, 16, 90_000, True, b"\x00\xffframe", 1),
    SegmentStats("s", 1, 2, 16, {"total": 5.5}, 10.0, 1, 2, 1000, 0.5, 2.5, 0.75),
    Stalled("s", Stall(1.0, 0.5, 2.5)),
    Stalled("s", None),
    Receipt("s", "c", "rejected", 2, 16, "invalid", "no"),
    Applied(Receipt("s", "c", "applied", 2, 16), 90_000),
    INFO,
    SessionClosed("s", "full", "no room", "prompt", 7),
    Exported("s", "x1", b"snapshot", None, None, 3, 0.25),
    Exported("s", "x1", None, "unavailable", "no"),
    Capacity(6, 2, 0.25, 1),
    CodecMeasured("av1", 0.25),
    CodecMeasured("av1", None, "no encoder"),
    Hung(2.5),
    Hung(None),
    Orphaned("s", 3),
    Claimed("s", 4, INFO, b"record"),
    Fenced("s", 4),
    Watched("s", 4, INFO, b"record"),
    *(Submitted("s", Control(f"c{n}", body)) for n, body in enumerate(BODIES)),
    Answered("s", Receipt("s", "c", "applied", 3, 24)),
    Moved("s", 7, 5),
    OtherViewers("s", 3),
    WorkerLost("it broke"),
    Alive(),
)
