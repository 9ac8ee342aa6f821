"""What log and metrics say of workers on other hosts that are stopped."""

from __future__ import annotations

import pytest

from server.worker.base import OnEvent
from server.worker.remote import RemoteWorker
from tests.rigs.server.port_rig import listening, remote
from tests.rigs.waiting import until
from tests.server.gateway.guests.gateways import connected, gateways


@pytest.mark.parametrize(("drained", "level"), [(True, "WARNING"), (False, "ERROR")])
async def test_a_worker_that_was_drained_may_stop(
    drained: bool, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateways(number=1, workers=2) as ((gate,), (first, _)):
        if drained:
            gate.drain("w1")
        first.end()
        await until(lambda: "w1: the worker could not be used" in caplog.text, "another try")
    about = [e for e in caplog.records if e.name.endswith("supervisor") and e.message.startswith("w1: ")]
    assert "connecting again" in about[0].message
    assert {entry.levelname for entry in about[:2]} == {level}


async def test_tries_to_connect_count_as_no_restarts() -> None:
    tries = 0

    async with listening() as (host, port):

        def make(on_event: OnEvent) -> RemoteWorker:
            nonlocal tries
            tries += 1
            return remote(port, on_event)

        async with connected([make], number=1) as (gate,):
            host.end()
            await until(lambda: tries > 3, "more tries")
            restarts = gate.metrics.registry.get_sample_value(
                "psistream_worker_restarts_total", {"worker": "w1"}
            )
            assert restarts == 0
