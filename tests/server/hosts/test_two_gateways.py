"""Two gateways and two hosts: when one gateway is killed, the other one takes over its sessions."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from benchmarks.chaos.audience import Audience
from benchmarks.chaos.processes import small_cluster
from benchmarks.network.hosts import host_network
from benchmarks.server.reader import Reader
from clients.errors import ViewError
from clients.http import http_client
from clients.target import Target
from tests.rigs.waiting import LONG_S, until
from tests.server.hosts.test_two_hosts import FAKE, assert_nothing_was_lost

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(400)]


async def watching(stack: contextlib.AsyncExitStack, target: Target) -> Reader:
    """A reader of this session, as soon as the gateway has it."""
    until_s = time.monotonic() + LONG_S
    while True:
        reader = Reader(target)
        try:
            return await stack.enter_async_context(reader)
        except ViewError:
            assert time.monotonic() < until_s
            await asyncio.sleep(0.2)


async def test_the_other_gateway_takes_over_with_the_same_tokens_times_and_receipts() -> None:
    with host_network(2) as network, small_cluster(2, FAKE, network, gateways=2, directory=True) as cluster:
        async with (
            Audience(cluster.base, 2, prompt_every_s=1.0) as audience,
            contextlib.AsyncExitStack() as stack,
        ):
            await until(lambda: len(audience.prompts) >= 6, "some prompts", LONG_S)
            await audience.settle()
            assert_nothing_was_lost(audience)
            await asyncio.sleep(2.0)  # a record of the last receipts is left every second
            cluster.gateway.kill()
            for before in audience.readers:
                target = Target(cluster.bases[1], before.target.session, before.target.token)
                after = await watching(stack, target)
                await until(lambda r=after: len(r.seen.segments) > 2, "video", LONG_S)  # type: ignore[misc]
                known = [pts for _, pts in after.seen.frames if pts is not None]
                last = before.seen.frames[-1][1]
                assert last is not None
                assert known[0] > last
                assert after.seen.segments[0][1]["frame"] > before.seen.segments[-1][1]["frame"]
                async with http_client(target.base, 10.0) as http:
                    sent = audience.prompts[0]
                    body = {"type": "prompt", "id": sent.id, "text": sent.text}
                    again = await http.post(f"{target.path}/controls", json=body, headers=target.headers)
                    assert again.json()["status"] == "applied"
