"""Gateways that find their workers through a directory, and what they do with each other's sessions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import pytest

from engine.errors import PsistreamError, Unavailable
from server.cluster.messages import JoinWorker, WorkerReport
from server.cluster.operating import status
from server.gateway.cluster.joined import HostDrained
from server.gateway.fleet.fleet import LastWorker
from server.gateway.gateway import Gateway
from tests.rigs.server.directory_rig import directing, member
from tests.rigs.server.server_rig import join, recorded, until
from tests.server.gateway.cluster.joining import joined_gateway, joined_worker, leases


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gateway.upkeep.EVERY_S", 0.05)
    monkeypatch.setattr("server.cluster.owners.VACANT_S", 0.5)


def runs(gate: Gateway, session: str) -> str:
    return gate.session(session).worker


async def test_a_gateway_waits_for_a_worker_and_then_plays() -> None:
    async with directing() as (directory, port):
        starting = asyncio.create_task(until(lambda: directory.tables.roster().gateways, "the gateway"))

        async def play() -> None:
            async with joined_gateway(port, "g1") as gate:
                assert runs(gate, "main") == "a"
                assert gate.session("main").token
                mine = await gate.open("a dog")
                sent = recorded(mine.fanout)
                join(mine.fanout)
                await until(lambda: len(sent) > 5, "video")

        playing = asyncio.create_task(play())
        await starting
        async with joined_worker(port, "a"):
            await playing


async def test_workers_come_and_go() -> None:
    """What ran on one that is gone goes on where there is room; one that comes back is used again."""
    async with directing() as (_, port), contextlib.AsyncExitStack() as workers:
        await workers.enter_async_context(joined_worker(port, "a"))
        async with joined_gateway(port, "g1") as gate:
            main = gate.session("main")
            sent = recorded(main.fanout)
            join(main.fanout)
            await until(lambda: sent and main.recovery.reopening(""), "video")
            async with joined_worker(port, "b") as other:
                await until(lambda: len(gate.fleet) == 2 and gate.fleet.named("b").ready, "the second worker")
                await workers.aclose()
                await until(lambda: main.worker == "b" and not main.orphaned, "failover")
                await until(lambda: [w.name for w in gate.fleet] == ["b"], "the end of the first one")
                assert leases(other) == ["main"]
                before = len(sent)
                await until(lambda: len(sent) > before + 3, "video", 30.0)
                async with joined_worker(port, "a"):
                    await until(lambda: "a" in [w.name for w in gate.fleet if w.accepts], "its return")
                    for _ in range(3):
                        await gate.open("a dog")
                    assert {s.worker for s in gate.sessions} == {"a", "b"}


async def test_a_host_is_drained_by_all_gateways_and_taken_back() -> None:
    async with (
        directing() as (directory, port),
        joined_worker(port, "a", "host-a") as first,
        joined_gateway(port, "g1") as one,
        joined_gateway(port, "g2") as two,
    ):
        mine = await two.open("a dog")
        directory.tables.drain("host-a")
        await until(lambda: two.joined and two.joined.roster.workers[0].draining, "the roster")
        assert leases(first) == sorted(["main", mine.id])  # nowhere to go
        async with joined_worker(port, "b", "host-b") as second:
            await until(lambda: not leases(first), "the drain", 30.0)
            await until(lambda: leases(second) == sorted(["main", mine.id]), "both of them")
            states = ["drained", "running"]
            await until(lambda: [one.fleet.status(w).state for w in one.fleet] == states, "the workers' word")
            assert (await one.open("a cat")).worker == "b"
            directory.tables.take_back("host-a")
            await until(lambda: one.fleet.named("a").accepts, "the end of the drain")
            await until(lambda: two.fleet.named("a").accepts, "the end of the drain at the other one")


async def test_a_worker_that_one_gateway_drains_is_drained_by_all() -> None:
    async with (
        directing() as (directory, port),
        joined_worker(port, "a", "host-a") as first,
        joined_worker(port, "b", "host-b") as second,
        joined_gateway(port, "g1") as one,
        joined_gateway(port, "g2") as two,
    ):
        await until(lambda: all(len([w for w in g.fleet if w.accepts]) == 2 for g in (one, two)), "both")
        for _ in range(2):
            await two.open("a dog")
        emptied, other = (first, "b") if leases(first) else (second, "a")
        drained = "a" if other == "b" else "b"
        one.drain(drained)
        await until(lambda: directory.tables.roster().drained_workers == (drained,), "word of it", 30.0)
        await until(lambda: not leases(emptied), "the drain at both", 30.0)
        for gate in (one, two):
            await until(
                lambda g=gate: g.fleet.status(g.fleet.named(drained)).state == "drained",  # type: ignore[misc]
                "its state",
                30.0,
            )
        with pytest.raises(LastWorker):
            two.drain(other)
        assert directory.tables.roster().drained_workers == (drained,)
        two.take_back(drained)
        await until(lambda: one.fleet.named(drained).accepts and two.fleet.named(drained).accepts, "its end")
        directory.tables.drain("host-a")
        await until(lambda: one.joined and one.joined.roster.drained, "the drain of the host")
        with pytest.raises(HostDrained, match="cluster take-back host-a"):
            one.take_back("a")


async def test_the_sessions_of_a_worker_are_those_of_all_gateways() -> None:
    async with (
        directing() as (_, port),
        joined_worker(port, "a"),
        joined_gateway(port, "g1") as one,
        joined_gateway(port, "g2") as two,
    ):
        await two.open("a dog")
        for gate in (one, two):
            await until(lambda g=gate: g.fleet.status(g.fleet.first).sessions == 2, "both sessions")  # type: ignore[misc]


async def test_drains_outlive_the_directory_with_the_gateways(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the drain of a host whose worker is gone: it drains when it is back."""
    async with contextlib.AsyncExitStack() as stack:
        async with directing() as (directory, port):
            await stack.enter_async_context(joined_worker(port, "a", "host-a"))
            await stack.enter_async_context(joined_worker(port, "b", "host-b"))
            one = await stack.enter_async_context(joined_gateway(port, "g1"))
            await until(lambda: len([w for w in one.fleet if w.accepts]) == 2, "both workers")
            directory.tables.drain("host-z")
            one.drain("b")
            await until(lambda: one.joined and one.joined.roster.drained_workers == ("b",), "the roster")
        await until(lambda: one.joined and not one.joined.reached, "loss")
        with pytest.raises(Unavailable, match="the directory does not answer"):
            one.take_back("b")
        assert one.fleet.named("b").draining
        async with directing(port) as (second, _):
            await until(lambda: second.tables.roster().drained == ("host-z",), "word of the gateway")
            assert second.tables.roster().drained_workers == ("b",)
            async with joined_worker(port, "z", "host-z"):
                await until(lambda: one.fleet.get("z") and one.fleet.named("z").draining, "its drain")


async def test_one_gateway_has_main_and_each_steers_its_own_sessions() -> None:
    async with (
        directing() as (directory, port),
        joined_worker(port, "a") as host,
        joined_gateway(port, "g1") as one,
        joined_gateway(port, "g2") as two,
    ):
        mine, other = await one.open("a dog"), await two.open("a cat")
        assert "main" in one.session_ids()
        assert sorted(two.session_ids()) == [other.id]
        assert leases(host) == sorted(["main", mine.id, other.id])
        await until(lambda: directory.tables.roster().main == "g1", "report")
        await asyncio.sleep(0.3)  # upkeep of the other one has had its chance
        assert "main" not in two.sessions
        two_sees = two.fleet.named("a")
        await until(lambda: two_sees.others == 2, "count of the other one's sessions")
        assert two.fleet.places_left(two_sees) == 0


async def test_a_directory_that_is_away_changes_nothing() -> None:
    """Sessions play, open and close with the last roster; the next directory knows everything again."""
    async with contextlib.AsyncExitStack() as stack:
        async with directing() as (_, port):
            await stack.enter_async_context(joined_worker(port, "a"))
            await stack.enter_async_context(joined_worker(port, "b"))
            one = await stack.enter_async_context(joined_gateway(port, "g1"))
            two = await stack.enter_async_context(joined_gateway(port, "g2"))
            await until(lambda: len([w for w in two.fleet if w.accepts]) == 2, "both workers")
            mine = await two.open("a dog")
            sent = recorded(mine.fanout)
            join(mine.fanout)
            await until(lambda: sent, "video")
        before = len(sent)
        figure = one.metrics.registry.get_sample_value
        await until(lambda: figure("psistream_directory_connected") == 0, "loss")
        assert (await one.open("a cat")).opened.done()
        await until(lambda: len(sent) > before + 3, "video")
        async with directing(port) as (second, _):
            names = {"a", "b", "g1", "g2"}

            def known() -> bool:
                roster = second.tables.roster()
                return {w.name for w in roster.workers} | {g.name for g in roster.gateways} == names

            await until(known, "everybody")
            await until(lambda: second.tables.roster().settled, "time")
            await until(lambda: second.tables.roster().main == "g1", "main")
            before = len(sent)
            await until(lambda: len(sent) > before + 3, "video")
            assert figure("psistream_directory_connected") == 1
            assert not mine.closed.is_set()
            assert len(one.fleet) == len(two.fleet) == 2
        assert one.session("main").opened.done()


async def test_a_gateway_that_a_worker_has_no_room_for_says_so_everywhere(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its log, once; in its list of workers; and in `psistream cluster status`. It gets in when it can."""
    monkeypatch.setattr("server.gateway.fleet.supervisor.MAX_DELAY_S", 0.5)
    told = "the worker has 1 gateways, which is the most: start it with a larger --max-gateways"
    async with (
        directing() as (directory, port),
        joined_worker(port, "a", most=1),
        joined_worker(port, "b"),
        contextlib.AsyncExitStack() as first,
    ):
        one = await first.enter_async_context(joined_gateway(port, "g1"))
        await until(lambda: len([w for w in one.fleet if w.accepts]) == 2, "both workers")
        async with joined_gateway(port, "g2") as two:
            await until(lambda: "could not be used" in (two.fleet.named("a").fault or ""), "a second try", 30)
            assert told in (two.fleet.status(two.fleet.named("a")).fault or "")
            await until(lambda: told in "".join(status(directory.tables.roster())), "the report")
            assert "g2 cannot use a: " in "".join(status(directory.tables.roster()))
            tries: set[object] = set()

            def tried() -> int:
                tries.add(two.fleet.named("a").worker)
                return len(tries)

            await until(lambda: tried() > 3, "more of them", 30)
            assert len([r for r in caplog.records if told in r.message and r.name.endswith("visor")]) <= 2
            assert (await two.open("a dog")).worker == "b"
            await first.aclose()
            await until(lambda: two.fleet.named("a").accepts, "its turn", 30)
            await until(lambda: "cannot use" not in "".join(status(directory.tables.roster())), "a report")


async def test_a_report_is_not_larger_than_a_message_may_be() -> None:
    async with directing() as (directory, port), joined_worker(port, "a"), joined_gateway(port, "g1") as gate:
        assert gate.joined is not None
        gate.sessions.budgets._used = {f"10.0.{n // 256}.{n % 256}": float(n) for n in range(5000)}
        report = gate.joined.report()
        assert len(report.used) == 4096
        assert report.used["10.0.19.135"] == 4999.0
        seen = gate.joined.roster
        gate.sessions.budgets._used = dict(report.used)
        await until(lambda: gate.joined and gate.joined.roster is not seen, "a roster")
        assert [g.name for g in directory.tables.roster().gateways if g.ready] == ["g1"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"worker_key": b"another key of the same length.."}, "another key"), ({}, "the name g1 is taken")],
)
async def test_a_gateway_that_may_not_join_does_not_start(changes: dict[str, Any], told: str) -> None:
    async with directing() as (_, port), joined_worker(port, "a"), joined_gateway(port, "g1"):
        with pytest.raises(PsistreamError, match=told):
            await joined_gateway(port, "g1", **changes).__aenter__()


async def test_a_worker_of_the_roster_that_does_not_answer_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lost = JoinWorker("lost", "tcp://127.0.0.1:1", "host-l")
    async with directing() as (_, port), joined_worker(port, "a"), member(port, lost, WorkerReport()):
        async with joined_gateway(port, "g1") as gate:
            await until(lambda: gate.fleet.get("lost"), "the roster")
            assert gate.fault is None
            await until(lambda: "no connection" in (gate.fleet.named("lost").fault or ""), "a try")
            assert gate.fleet.status(gate.fleet.named("lost")).state == "starting"
        assert not [r for r in caplog.records if r.exc_info and r.levelno >= logging.ERROR]
