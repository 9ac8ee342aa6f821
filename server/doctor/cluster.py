"""Checks the other parts of a cluster: the directory of --join, and the workers that it or --worker names."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from engine.errors import PsistreamError
from server.cluster.membership import Membership
from server.cluster.messages import Watch
from server.config import ServerConfig
from server.doctor.findings import Finding, bad, good
from server.worker.remote import WorkerAddress

ANSWER_S = 5.0
MOST = 64  # workers that are tried


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
    for finding in await asyncio.gather(*map(_reach, urls[:MOST])):
        yield finding


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
