"""Sessions whose gateway is gone go on at another one, and those of a gateway that lives stay there."""

from __future__ import annotations

import contextlib

import pytest

from engine.types import SessionClosed
from server.worker.remote import RemoteWorker
from tests.rigs.server.directory_rig import directing
from tests.rigs.server.server_rig import join, recorded, until
from tests.server.gateway.cluster.joining import joined_gateway, joined_worker, kill, leases


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gateway.upkeep.EVERY_S", 0.05)
    monkeypatch.setattr("server.cluster.owners.VACANT_S", 0.5)


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_the_sessions_of_a_gateway_that_is_gone_go_on_at_another(how: str) -> None:
    """Killed or stopped in order: nothing is closed, and the roster says who has them."""
    async with (
        directing() as (directory, port),
        joined_worker(port, "a") as host,
        joined_gateway(port, "g2") as stays,
    ):
        ends: list[SessionClosed] = []
        async with joined_gateway(port, "g1") as gone:
            mine = await gone.open("a dog", 5)
            hashes = mine.token_hashes
            sent = recorded(mine.fanout)
            join(mine.fanout)
            await until(lambda: len(sent) > 5, "video")
            gone.listen(lambda event: ends.append(event) if isinstance(event, SessionClosed) else None)
            if how == "killed":
                kill(gone)
                await until(lambda: mine.id in stays.sessions, "the claim")
        await until(lambda: mine.id in stays.sessions, "the claim")
        taken = stays.session(mine.id)
        assert taken.token_hashes == hashes
        assert leases(host) == sorted(["main", mine.id])
        await until(lambda: mine.id in directory.tables.roster().moved, "the roster")
        assert directory.tables.roster().moved[mine.id] == "g2"
        again = recorded(taken.fanout)
        join(taken.fanout)
        await until(lambda: again, "video", 30.0)
        assert again[0].frame >= sent[-1].frame
        if how == "stopped":
            assert [(e.session, e.code) for e in ends] == [(mine.id, "moved")]


async def test_a_gateway_that_lives_keeps_its_sessions_when_a_connection_is_lost() -> None:
    """The other gateway used to claim them at once, so viewers were sent there for nothing."""
    async with (
        directing() as (directory, port),
        joined_worker(port, "a") as host,
        joined_gateway(port, "g1") as one,
        joined_gateway(port, "g2") as two,
    ):
        mine, main = await one.open("a dog"), one.session("main")
        await until(lambda: len(directory.tables.roster().gateways) == 2, "both gateways")
        worker = one.fleet.named("a").worker
        assert isinstance(worker, RemoteWorker)
        assert worker._link._connection is not None
        worker._link._connection.abort()
        await until(lambda: main.orphaned, "the loss")
        await until(lambda: not main.orphaned and not mine.orphaned, "its return")
        await until(lambda: all(lease.owner is not None for lease in host.mail.leases), "leases")
        seen = two.joined.roster if two.joined else None
        await until(lambda: two.joined and two.joined.roster is not seen, "a roster")
        assert not list(two.sessions)
        assert not mine.closed.is_set()
        assert not main.closed.is_set()
        kill(one)
        await until(lambda: sorted(two.session_ids()) == sorted(["main", mine.id]), "the claim")


async def test_while_the_directory_is_away_sessions_are_claimed_a_little_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.gateway.cluster.joined.STALE_S", 1.0)
    async with contextlib.AsyncExitStack() as stack:
        async with directing() as (_, port):
            await stack.enter_async_context(joined_worker(port, "a"))
            one = await stack.enter_async_context(joined_gateway(port, "g1"))
            two = await stack.enter_async_context(joined_gateway(port, "g2"))
            mine = await one.open("a dog")
        kill(one)
        await until(lambda: sorted(two.session_ids()) == sorted(["main", mine.id]), "the claim")


async def test_main_goes_on_at_another_gateway_or_is_opened_again_there() -> None:
    async with directing() as (directory, port), joined_worker(port, "a") as host:
        async with joined_gateway(port, "g1") as first:
            hashes = first.session("main").token_hashes
            lease = host.mail.leases.get("main")
            assert lease is not None
            await until(lambda: lease.record, "its record")
            async with joined_gateway(port, "g2") as second:
                kill(first)
                await until(lambda: "main" in second.sessions, "the claim")
                assert second.session("main").token_hashes == hashes
                await until(lambda: directory.tables.roster().main == "g2", "the roster")
                second.parts.opener.drop(second.session("main"), "idle", "it was broken")
                await until(lambda: "main" in second.session_ids(), "another one")
        assert leases(host) == ["main"]
