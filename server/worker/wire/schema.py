"""What may pass between a gateway and a worker: every type with the name that it has on the wire.

The fields are those of the dataclasses. A name stays when its class is renamed. A new field needs a default,
so that an older peer can leave it out; a change that an older peer would misread needs a new WIRE number.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine import types as nouns
from server.worker import base
from server.worker.messages import commands, events, holding

WIRE = 1  # the version of this schema


@dataclass(frozen=True)
class Hello:
    """The first message, from the gateway. `nonce` has 32 random bytes."""

    wire: int
    program: str  # psistream's version
    nonce: bytes
    gateway: str = ""  # its name, for the worker's log


@dataclass(frozen=True)
class Challenge:
    """The worker's answer: who it is, and the proof that it has the key (see handshake)."""

    wire: int
    program: str
    nonce: bytes
    proof: bytes


@dataclass(frozen=True)
class Proof:
    """That the gateway has the key too."""

    proof: bytes


@dataclass(frozen=True)
class Welcome:
    """The connection is open. What the worker runs, its model's fingerprint with it, the sessions that nobody
    holds, and those that other gateways hold."""

    ready: events.WorkerReady
    orphans: tuple[holding.Orphaned, ...] = ()
    held: tuple[holding.Fenced, ...] = ()


@dataclass(frozen=True)
class GreetingRefused:
    """The connection is of no use, and closed; `code` as in engine.errors."""

    code: str
    message: str


GREETINGS: dict[str, type] = {
    "hello": Hello,
    "challenge": Challenge,
    "proof": Proof,
    "welcome": Welcome,
    "refused": GreetingRefused,
}
ORDERS: dict[str, type] = {
    "open": nouns.OpenSession,
    "go_on": base.RestoreSession,
    "submit": commands.SubmitControl,
    "export": commands.ExportSession,
    "close": commands.CloseSession,
    "viewers": commands.SetViewers,
    "keyframe": commands.RequestKeyframe,
    "claim": holding.ClaimSession,
    "end": holding.EndCopy,
    "record": holding.KeepRecord,
    "watch": holding.WatchSession,
    "leave": holding.LeaveSession,
    "answered": holding.Answered,
    "moved": holding.Moved,
    "measure": commands.MeasureCodec,
    "stalled": events.Stalled,
    "stop": commands.Stop,
    "alive": base.Alive,
}
EVENTS: dict[str, type] = {
    "packet": events.Packet,
    "stats": events.SegmentStats,
    "stalled": events.Stalled,
    "receipt": nouns.Receipt,
    "applied": base.Applied,
    "session": nouns.SessionInfo,
    "closed": nouns.SessionClosed,
    "exported": events.Exported,
    "capacity": nouns.Capacity,
    "measured": events.CodecMeasured,
    "hung": events.Hung,
    "orphaned": holding.Orphaned,
    "claimed": holding.Claimed,
    "fenced": holding.Fenced,
    "watched": holding.Watched,
    "submitted": holding.Submitted,
    "answered": holding.Answered,
    "moved": holding.Moved,
    "others": holding.OtherViewers,
    "lost": base.WorkerLost,
    "alive": base.Alive,
}
PARTS: dict[str, type] = {  # of the others
    "ready": events.WorkerReady,
    "numbers": base.Numbers,
    "control": nouns.Control,
    "prompt": nouns.Prompt,
    "action": nouns.Action,
    "pause": nouns.Pause,
    "resume": nouns.Resume,
    "reset": nouns.Reset,
    "image": nouns.Image,
    "rewind": nouns.Rewind,
    "weighted": nouns.Weighted,
    "stall": nouns.Stall,
    "landmark": nouns.NamedLandmark,
}
NAMES: dict[type, str] = {
    kind: name for group in (GREETINGS, ORDERS, EVENTS, PARTS) for name, kind in group.items()
}


def name_of(kind: type) -> str:
    """A type's name on the wire. Types that no worker knows, such as those of the directory, have it as
    `wire_name`."""
    return NAMES.get(kind) or str(vars(kind)["wire_name"])
