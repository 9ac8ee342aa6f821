"""Gateways that share workers, which listen on ports of this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from server.gateway.gateway import Gateway
from server.gateway.session import GatewaySession
from server.metrics import Metrics
from server.worker.base import MakeWorker
from server.worker.hosting.host import Host
from tests.rigs.server.port_rig import KEY as WORKER_KEY
from tests.rigs.server.port_rig import listening, remote
from tests.rigs.server.server_rig import config
from tests.rigs.waiting import LONG_S

KEY = "0123456789abcdeffedcba9876543210"


def maker(port: int) -> MakeWorker:
    return lambda on_event: remote(port, on_event)


@asynccontextmanager
async def gateways(number: int = 2, workers: int = 1) -> AsyncIterator[tuple[list[Gateway], list[Host]]]:
    """Gateways g1, g2 … that are connected to the same workers. None of them opens `main`."""
    async with AsyncExitStack() as stack:
        hosts = [await stack.enter_async_context(listening()) for _ in range(workers)]
        makers = [maker(port) for _, port in hosts]
        yield await stack.enter_async_context(connected(makers, number)), [host for host, _ in hosts]


@asynccontextmanager
async def connected(makers: list[MakeWorker], number: int = 2) -> AsyncIterator[list[Gateway]]:
    settings = config(placement="remote", host="192.0.2.1", api_key=KEY, worker_key=WORKER_KEY)
    async with AsyncExitStack() as stack:
        named = [replace(settings, name=f"g{n}") for n in range(1, number + 1)]
        yield [await stack.enter_async_context(Gateway(each, makers, Metrics())) for each in named]


async def shown(gate: Gateway, owner: GatewaySession) -> GatewaySession:
    """The session as this gateway has it, which is a guest of its owner's."""
    found = await gate.guests.find(owner.id)
    assert found is not None
    assert found.info.prompt
    # the owner has just left its record
    await renewed(gate, owner.id, lambda: found.token_hashes == owner.token_hashes)
    return found


async def renewed(gate: Gateway, session: str, true: Callable[[], bool]) -> None:
    """What a guest knows of a session's tokens is renewed until this is true."""
    async with asyncio.timeout(LONG_S):
        while not true():
            await gate.guests.renew(session)
            await asyncio.sleep(0.02)
