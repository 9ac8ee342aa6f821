"""Gateways and workers that have joined a directory, all in this process and over loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from server.cluster.messages import JoinWorker, WorkerReport
from server.gateway.gateway import Gateway
from server.metrics import Metrics
from server.worker.hosting.host import MAX_GATEWAYS, Host
from tests.rigs.server.directory_rig import member
from tests.rigs.server.port_rig import KEY, listening, vanish
from tests.rigs.server.server_rig import config

API_KEY = "0123456789abcdeffedcba9876543210"


@asynccontextmanager
async def joined_worker(
    port: int, name: str, host: str | None = None, most: int = MAX_GATEWAYS
) -> AsyncIterator[Host]:
    """A worker in this process that has joined the directory at `port`, for this number of gateways."""
    async with listening(most=most) as (device, own):
        join = JoinWorker(name, f"tcp://127.0.0.1:{own}", host or f"host-{name}", instance=name)

        def report() -> WorkerReport:
            return WorkerReport(device.mail.capacity, sum(1 for _ in device.mail.leases))

        async with member(port, join, report) as membership:
            await membership.joined()
            yield device


@asynccontextmanager
async def joined_gateway(port: int, name: str, **changes: Any) -> AsyncIterator[Gateway]:
    """A gateway that has joined it."""
    given: dict[str, Any] = {
        "placement": "remote",
        "host": "192.0.2.1",
        "api_key": API_KEY,
        "join": f"tcp://127.0.0.1:{port}",
        "worker_key": KEY,
        "name": name,
        "advertise": f"http://192.0.2.1/{name}",
    }
    settings = config(**{**given, **changes})
    async with Gateway(settings, [], Metrics()) as gate:
        yield gate


def kill(gate: Gateway) -> None:
    """As if its process had been killed: it neither says anything nor hears of it."""
    vanish(gate)
    assert gate.joined is not None
    membership = gate.joined._membership
    assert membership is not None
    for task in list(membership._tasks._tasks):
        task.cancel()
    if membership._connection is not None:
        membership._connection.abort()


def leases(host: Host) -> list[str]:
    """The sessions that this worker runs."""
    return sorted(lease.session for lease in host.mail.leases)
