"""A real client of a copy that is ended, since its session goes on in another one: HTTP, WebRTC, workers over
sockets."""

from __future__ import annotations

import pytest

from clients.steer import connect
from server.gateway.failover import Failover
from server.worker.remote import RemoteWorker
from tests.rigs.server.cluster_rig import Member, opened, two
from tests.rigs.server.port_rig import remote
from tests.rigs.server.server_rig import until


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gateway.upkeep.EVERY_S", 0.05)


def cut(at: Member, worker: str) -> None:
    """This gateway loses this worker, and does not reach it again."""
    supervisor = at.gateway.fleet.named(worker)
    supervisor._make_worker = lambda hear: remote(1, hear)  # nobody listens there
    assert isinstance(supervisor.worker, RemoteWorker)
    connection = supervisor.worker._link._connection
    assert connection is not None
    connection.abort()


async def test_what_was_applied_in_the_copy_that_is_ended_is_applied_in_the_other_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """g1 loses the worker of its session. g2 takes the session over, until g1 goes on in the other worker."""
    async with two() as (g1, g2):
        name, headers = await opened(g1)
        mine = g1.gateway.session(name)
        token = headers["Authorization"].partition(" ")[2]
        async with connect(g2.url, name, token=token, by="datachannel") as client:
            kept = await client.prompt("a blue dog").applied()
            with monkeypatch.context() as patched:
                patched.setattr(Failover, "restore_all", lambda failover: None)
                cut(g1, mine.worker)
                await until(lambda: name in g2.gateway.session_ids(), "claim")
                lost = client.prompt("a green cat", when="now")
                before = await lost.applied()
            await until(lambda: name not in g2.gateway.session_ids(), "end of that copy")
            await until(lambda: (lost.frame or 0) != before.frame, "its second receipt")
            assert client.ended is None
            again = await lost.applied()
            assert mine.answers[lost.id].frame == again.frame
            assert mine.answers[kept.id].frame == kept.frame
            await until(lambda: client.state.prompt == "a green cat", "the state")
            log = (await g1.http.get(f"/v1/sessions/{name}/log", headers=headers)).text
            assert log.count(lost.id) == 1, log
            assert log.count(kept.id) <= 1, "it may be part of the snapshot"
