"""Checks the other parts of a cluster: the directory of --join, and the gateways and workers that it or
--worker names."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from engine.errors import PsistreamError
from server.cluster.membership import Membership
from server.cluster.messages import GATEWAY_FAULT, GATEWAY_MEND, GatewayEntry, Watch
from server.config import ServerConfig
from server.doctor.findings import Finding, bad, good
from server.http.edge.forwarding import Forwarding
from server.http.edge.reach import tried
from server.worker.remote import WorkerAddress

ANSWER_S = 5.0
MOST = 64  # workers, and gateways, that are tried
AT_ONCE = 16


async def others(config: ServerConfig) -> AsyncIterator[Finding]:
    """Nothing for a server with workers of its own."""
    urls = list(config.remotes)
    if config.join is not None:
        where, key, ca = WorkerAddress.parse(config.join, "--join"), config.worker_key, config.worker_ca
        async with Membership(where, key, ca, Watch, lambda _: None) as member:
            try:
                async with asyncio.timeout(ANSWER_S):
                    roster = await member.joined()
            except (TimeoutError, PsistreamError) as error:
                told = error.message if isinstance(error, PsistreamError) else str(member.fault)
                mend = "start `psistream cluster up` there, or correct --join, --join-key-file and --join-ca"
                yield bad("directory", told, mend)
                return
        names = ", ".join(gateway.name for gateway in roster.gateways if gateway.name != config.name)
        yield good("directory", f"{where} answers; other gateways: {names or 'none'}")
        urls = [worker.url for worker in roster.workers]
        async with contextlib.aclosing(Forwarding()) as forwarding:
            turns = asyncio.Semaphore(AT_ONCE)
            gateways = [each for each in roster.gateways if each.ready][:MOST]
            tries = (_answers(forwarding, turns, each, key) for each in gateways)
            for finding in await asyncio.gather(*tries):
                yield finding
        for gateway in roster.gateways:
            for name, why in gateway.faults.items():
                if name.startswith(GATEWAY_FAULT):
                    yield bad("gateway", f"{gateway.name} cannot reach {name}: {why}", GATEWAY_MEND)
    for finding in await asyncio.gather(*map(_reach, urls[:MOST])):
        yield finding


async def _answers(
    forwarding: Forwarding, turns: asyncio.Semaphore, gateway: GatewayEntry, key: bytes
) -> Finding:
    """Whether a gateway is where it says."""
    async with turns:
        wrong = await tried(forwarding, gateway.url, gateway.name, key)
    if wrong is None:
        return good("gateway", f"{gateway.name} answers at {gateway.url}")
    return bad("gateway", f"{gateway.name} cannot be reached from here: {wrong.why}", GATEWAY_MEND)


async def _reach(url: str) -> Finding:
    where = WorkerAddress.parse(url, "--worker")
    try:
        async with asyncio.timeout(ANSWER_S):
            _, writer = await asyncio.open_connection(where.host, where.port)
    except (OSError, TimeoutError) as error:
        reason = f"no answer in {ANSWER_S:g} s"
        if not isinstance(error, TimeoutError):
            number = error.errno or 0  # a name that is unknown has a negative one
            reason = os.strerror(number) if number > 0 else error.strerror or str(error)
        mend = "start it, correct its --listen or --advertise, or open the port in the firewalls between"
        return bad("worker", f"{url}: {reason}", mend)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return good("worker", f"{url} can be reached")
