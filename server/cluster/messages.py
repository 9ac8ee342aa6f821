"""What workers, gateways and operators say to the directory, and what it answers. Plain data.

It has the form of what gateways and workers say to each other (server.worker.wire): unknown types and fields
are ignored, and a new field needs a default. Packets, commands and snapshots never pass the directory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import ClassVar

from engine.types import Capacity
from server.worker.wire.handshake import Door
from server.worker.wire.schema import GreetingRefused

CLUSTER_WIRE = 1  # the version of these messages
DIRECTORY_DOOR = Door("directory", "member", CLUSTER_WIRE, "--key-file (of serve: --join-key-file)")
MAIN = "main"  # the shared session, one for the whole cluster
REPORT_S = 1.0  # between two reports of a member, and at most between two rosters of the directory

# it starts the ids of the gateway's sessions, and `main` is one by itself
GATEWAY_FAULT = "gateway "  # before its name: a fault that is no worker's, see server.http.edge.reach
GATEWAY_MEND = "give it an --advertise where the other gateways reach it, and nobody else is"
GATEWAY_NAME = re.compile("(?!main$)[a-z][a-z0-9]{0,15}")
WORKER_NAME = re.compile("[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")


# ---- member → directory ----


@dataclass(frozen=True)
class JoinWorker:
    """The first message of a worker. `url` is where gateways reach it, `host` the machine that
    `psistream cluster drain` names, `instance` a random text per process: another process cannot take the
    name of one that lives. `draining`: as the directory said last, so that a new directory knows it."""

    wire_name: ClassVar[str] = "join_worker"
    name: str
    url: str  # tcp://HOST:PORT or tls://HOST:PORT
    host: str
    labels: dict[str, str] = field(default_factory=dict)
    instance: str = ""
    draining: bool = False


@dataclass(frozen=True)
class JoinGateway:
    """The first message of a gateway. `url` is where other gateways reach its HTTP. `drained` are hosts and
    `drained_workers` workers, as the directory said last, so that a new directory knows them."""

    wire_name: ClassVar[str] = "join_gateway"
    name: str
    url: str
    instance: str = ""
    drained: tuple[str, ...] = ()
    drained_workers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Watch:
    """The first message of an operator or a placer: it gets rosters and may send the orders below."""

    wire_name: ClassVar[str] = "watch"


@dataclass(frozen=True)
class WorkerReport:
    """Each second, from a worker: its capacity (None: not known yet) and the number of its sessions."""

    wire_name: ClassVar[str] = "worker_report"
    capacity: Capacity | None = None
    sessions: int = 0


@dataclass(frozen=True)
class CopyEntry:
    """A gateway's copy of a session: its epoch, and the instance of its worker, which decide between two. Or
    with the highest epoch that the session was closed (server.worker.epochs). Who reports it leaves out the
    gateway."""

    wire_name: ClassVar[str] = "copy_entry"
    epoch: int
    instance: str = ""
    gateway: str = ""


@dataclass(frozen=True)
class GatewayReport:
    """Each second, from a gateway: the number of its sessions, and by name only those whose ids don't start
    with its name (`main`, and sessions of gateways that are gone). For each client the device seconds used
    since the last report, and its open sessions. `faults` says of workers why it cannot use them now,
    and of gateways (see GATEWAY_FAULT) why it cannot reach them. `copies` has the sessions of which there may
    be more than one."""

    wire_name: ClassVar[str] = "gateway_report"
    sessions: int = 0
    adopted: tuple[str, ...] = ()
    used: dict[str, float] = field(default_factory=dict)
    open: dict[str, int] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    copies: dict[str, CopyEntry] = field(default_factory=dict)


@dataclass(frozen=True)
class DrainHost:
    """Move all sessions away from this machine's workers, and open none there."""

    wire_name: ClassVar[str] = "drain_host"
    host: str


@dataclass(frozen=True)
class TakeBackHost:
    """End a drain."""

    wire_name: ClassVar[str] = "take_back_host"
    host: str


@dataclass(frozen=True)
class DrainWorker:
    """From a gateway or an operator: move all sessions away from this worker, and open none there."""

    wire_name: ClassVar[str] = "drain_worker"
    worker: str


@dataclass(frozen=True)
class TakeBackWorker:
    """End the drain of a worker. It goes on as long as its host is drained."""

    wire_name: ClassVar[str] = "take_back_worker"
    worker: str


@dataclass(frozen=True)
class ScaleWorkers:
    """From now on this number of workers is to be placed."""

    wire_name: ClassVar[str] = "scale_workers"
    workers: int


@dataclass(frozen=True)
class LeaveHost:
    """This machine is to be taken away from those where workers are placed, for good."""

    wire_name: ClassVar[str] = "leave_host"
    host: str


@dataclass(frozen=True)
class StopDirectory:
    """And end the workers that it has placed, unless they are to be kept."""

    wire_name: ClassVar[str] = "stop_directory"
    keep_workers: bool = False


# ---- directory → member ----


@dataclass(frozen=True)
class Admitted:
    """The proof of the key was right: the member may join now."""

    wire_name: ClassVar[str] = "admitted"


@dataclass(frozen=True)
class WorkerEntry:
    """`ready`: it was heard of within the last seconds. `retired`: it drains, but its host is not drained.
    `sessions` and `capacity` are for those who watch only; members don't get them."""

    wire_name: ClassVar[str] = "worker_entry"
    name: str
    url: str
    host: str
    draining: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    ready: bool = True
    sessions: int = 0
    capacity: Capacity | None = None
    retired: bool = False


@dataclass(frozen=True)
class GatewayEntry:
    """As WorkerEntry. `sessions` and `faults`, as it reports them, are for those who watch only; members are
    told of faults of gateways, too."""

    wire_name: ClassVar[str] = "gateway_entry"
    name: str
    url: str
    ready: bool = True
    sessions: int = 0
    faults: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ClientUse:
    """What a client has at the other gateways: open sessions, and device seconds since the last roster."""

    wire_name: ClassVar[str] = "client_use"
    sessions: int
    device_s: float


@dataclass(frozen=True)
class PlacedEntry:
    """A worker that was placed, whether it has joined or not. `host` is empty as long as it has none."""

    wire_name: ClassVar[str] = "placed_entry"
    name: str
    stage: str
    host: str = ""


@dataclass(frozen=True)
class PlacementReport:
    """`notes` says, for people, what is not as wanted and why; `left` what runs on although it was to end."""

    wire_name: ClassVar[str] = "placement_report"
    wanted: int
    workers: tuple[PlacedEntry, ...] = ()
    notes: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


@dataclass(frozen=True)
class Roster:
    """What the directory knows: sent when it changes, at most four times a second, and each second.

    `moved` has the gateway of each session whose id starts with the name of another one. `main` is the
    gateway that has the session `main` or shall open it; empty while that is not known. `elsewhere` is for
    gateways. A worker is told of itself only. Until `settled`, a directory that has just started may not have
    heard of everybody. `drained` are hosts, with workers or without, and `drained_workers` single workers;
    workers are not told. `placement` is for those who watch, None if workers are not placed. `copies` has, of
    each session that more than one gateway reports, the right copy."""

    wire_name: ClassVar[str] = "roster"
    workers: tuple[WorkerEntry, ...] = ()
    gateways: tuple[GatewayEntry, ...] = ()
    moved: dict[str, str] = field(default_factory=dict)
    main: str = ""
    elsewhere: dict[str, ClientUse] = field(default_factory=dict)
    settled: bool = True
    placement: PlacementReport | None = None
    drained: tuple[str, ...] = ()
    drained_workers: tuple[str, ...] = ()
    copies: dict[str, CopyEntry] = field(default_factory=dict)


JoinMessage = JoinWorker | JoinGateway | Watch
Report = WorkerReport | GatewayReport
OperatorOrder = (
    DrainHost | TakeBackHost | DrainWorker | TakeBackWorker | ScaleWorkers | LeaveHost | StopDirectory
)

TO_DIRECTORY: dict[str, type] = {
    kind.wire_name: kind
    for kind in (
        JoinWorker,
        JoinGateway,
        Watch,
        WorkerReport,
        GatewayReport,
        DrainHost,
        TakeBackHost,
        DrainWorker,
        TakeBackWorker,
        ScaleWorkers,
        LeaveHost,
        StopDirectory,
    )
}
TO_MEMBERS: dict[str, type] = {"admitted": Admitted, "roster": Roster, "refused": GreetingRefused}
