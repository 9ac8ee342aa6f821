"""One message of every type that passes the directory's port, with every field set."""

from __future__ import annotations

from engine.types import Capacity
from server.cluster.messages import (
    Admitted,
    ClientUse,
    CopyEntry,
    DrainHost,
    DrainWorker,
    GatewayEntry,
    GatewayReport,
    JoinGateway,
    JoinWorker,
    LeaveHost,
    PlacedEntry,
    PlacementReport,
    Roster,
    ScaleWorkers,
    StopDirectory,
    TakeBackHost,
    TakeBackWorker,
    Watch,
    WorkerEntry,
    WorkerReport,
)
from server.worker.wire.schema import GreetingRefused

TO_DIRECTORY = (
    JoinWorker("w1", "tcp://10.0.0.7:7070", "host-a", {"gpu": "h100"}, "0a", draining=True),
    JoinGateway("g1", "http://10.0.0.5:8080", "0b", ("host-a", "host-b"), ("w1",)),
    Watch(),
    WorkerReport(Capacity(6, 2, 0.25), 2),
    WorkerReport(),
    GatewayReport(
        3,
        ("main", "g2-abc"),
        {"10.1.1.1": 0.5},
        {"10.1.1.1": 2},
        {"w1": "no connection"},
        {"g2-abc": CopyEntry(1 << 16, "1f")},
    ),
    DrainHost("host-a"),
    TakeBackHost("host-a"),
    DrainWorker("w1"),
    TakeBackWorker("w1"),
    ScaleWorkers(3),
    LeaveHost("host-a"),
    StopDirectory(keep_workers=True),
)
TO_MEMBERS = (
    Admitted(),
    GreetingRefused("name_taken", "no"),
    Roster(
        (
            WorkerEntry(
                "w1", "tcp://a:1", "host-a", True, {"gpu": "h100"}, False, 2, Capacity(6, 2, 0.25), True
            ),
        ),
        (GatewayEntry("g1", "http://a:8080", False, 3, {"w1": "no connection"}),),
        {"g2-abc": "g1"},
        "g1",
        {"10.1.1.1": ClientUse(2, 0.5)},
        settled=False,
        placement=PlacementReport(2, (PlacedEntry("w1", "running", "a"),), ("no GPU free",), ("w2 on b",)),
        drained=("host-a", "host-b"),
        drained_workers=("w1",),
        copies={"g2-abc": CopyEntry(1 << 16, "1f", "g2")},
    ),
)
