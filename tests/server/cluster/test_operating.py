"""`psistream cluster`: what it says to operators, and what it makes of their mistakes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import Forbidden, InvalidInput, Unavailable
from engine.types import Capacity
from server import cli
from server.cluster.messages import (
    GatewayEntry,
    GatewayReport,
    JoinGateway,
    JoinWorker,
    Report,
    Roster,
    WorkerEntry,
    WorkerReport,
)
from server.cluster.operating import ask, status
from server.worker.remote import WorkerAddress
from tests.rigs.server.directory_rig import directing, member
from tests.rigs.server.port_rig import KEY
from tests.rigs.waiting import until

W1 = JoinWorker("w1", "tcp://10.0.0.7:7070", "host-a", instance="1")


async def test_status_shows_workers_and_gateways(capsys: pytest.CaptureFixture[str]) -> None:
    async with (
        directing() as (directory, port),
        member(port, W1, WorkerReport(Capacity(6, 2, 0.25), 2)),
        member(port, JoinGateway("g1", "http://10.0.0.5:8080"), GatewayReport(2, ("main",))),
    ):
        await until(lambda: directory.tables.roster().main, "reports")
        await until(lambda: directory.tables.roster().workers, "the worker")
        await until(lambda: directory.tables.roster().workers[0].sessions, "its report")
        await ask("status", WorkerAddress("127.0.0.1", port), KEY, None)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["w1", "host-a", "ready", "2", "6", "25%", "tcp://10.0.0.7:7070"] in rows
    assert ["g1", "ready", "2", "main", "http://10.0.0.5:8080"] in rows


async def test_a_drain_returns_when_the_last_session_has_left(capsys: pytest.CaptureFixture[str]) -> None:
    reports: list[Report] = [WorkerReport(None, 2)]
    async with directing() as (directory, port), member(port, W1, WorkerReport()) as worker:
        worker._report = lambda: reports[-1]
        address = WorkerAddress("127.0.0.1", port)
        await until(lambda: any(w.sessions == 2 for w in directory.tables.roster().workers), "its report")
        with pytest.raises(Unavailable, match="host-a still has 2 sessions"):
            await ask("drain", address, KEY, None, "host-a", 0.2)
        waiting = asyncio.create_task(ask("drain", address, KEY, None, "host-a", 60.0))
        await until(lambda: worker.roster.workers[0].draining, "the drain")
        reports.append(WorkerReport(None, 0))
        await waiting
        await ask("take-back", address, KEY, None, "host-a")
        await until(lambda: not worker.roster.workers[0].draining, "its end")
        with pytest.raises(InvalidInput, match="no worker is on a host named 'host-b'; the hosts: host-a"):
            await ask("drain", address, KEY, None, "host-b")
    assert capsys.readouterr().out == "host-a is drained\nhost-a accepts sessions again\n"


async def test_a_host_leaves_ray_only_where_workers_are_placed(capsys: pytest.CaptureFixture[str]) -> None:
    """It was drained, and said to be taken from a Ray that there was not."""
    async with directing() as (directory, port), member(port, W1, WorkerReport()):
        await until(lambda: directory.tables.roster().workers, "the worker")
        with pytest.raises(InvalidInput, match="this directory places no workers"):
            await ask("drain", WorkerAddress("127.0.0.1", port), KEY, None, "host-a", 60.0, leave=True)
        assert not directory.tables.drained
    assert not capsys.readouterr().out


async def test_a_drained_host_without_a_worker_is_shown_and_taken_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with directing() as (directory, port):
        directory.tables.drain("host-z")
        address = WorkerAddress("127.0.0.1", port)
        await ask("status", address, KEY, None)
        assert "drained hosts without a worker: host-z\n" in capsys.readouterr().out
        await ask("take-back", address, KEY, None, "host-z")
        assert directory.tables.roster().drained == ()
        with pytest.raises(InvalidInput, match="no host has a worker now"):
            await ask("take-back", address, KEY, None, "host-z")


async def test_the_directory_is_ended_by_its_operator(capsys: pytest.CaptureFixture[str]) -> None:
    async with directing() as (directory, port):
        await ask("down", WorkerAddress("127.0.0.1", port), KEY, None)
        assert directory._over.done()
    assert "workers and gateways go on" in capsys.readouterr().out


async def test_who_asks_is_told_why_there_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.cluster.operating.ANSWER_S", 0.5)
    async with directing() as (_, port):
        with pytest.raises(Forbidden, match="another key"):
            await ask("status", WorkerAddress("127.0.0.1", port), KEY + b"x", None)
    with pytest.raises(Unavailable, match=r"Connection refused; is `psistream cluster up` running there\?"):
        await ask("status", WorkerAddress("127.0.0.1", port), KEY, None)


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, told in {
        "": "up|status|drain|take-back|scale|ray|down",
        "up --listen 7700": "--listen must look like",
        "up --listen 0.0.0.0:7700": "give --key-file",
        "status --directory 10.0.0.1:7700": "--directory must be tcp://HOST:PORT",
        f"status --key-file {tmp_path}/none.key": "there is no file",
        "drain": "HOST",
        "status --bakend fake": "unrecognized arguments: --bakend fake",
        "up --bakend fake": "unrecognized arguments: --bakend fake",
        "up --workers 1 --bakend fake": "unrecognized arguments: --bakend fake",
        "up --workers 1 --name w1": "--name of the workers is set by `psistream cluster up`",
        "up --workers 1025": "--workers must be 0 to 1024",
        "up --workers 1 --ray here": "--ray must look like",
        "up --workers 1 --gpus-per-worker -1": "--gpus-per-worker must be 0 or a positive number",
        "up --workers 1 --ray auto --host-label gpu": "--host-label must look like gpu=h100",
        "scale": "N",
        "drain host-a --timeout -1": "--timeout must be 0 or a positive number",
    }.items():
        assert cli.main(["cluster", *options.split()]) == 2, options
        shown = capsys.readouterr().err
        assert told in shown
        assert len(shown.splitlines()) == 1


def test_faults_are_shown_with_all_gateways_that_have_them() -> None:
    gateways = [GatewayEntry(f"g{n}", "http://a:1", faults={"w1": "no connection"}) for n in range(1, 4)]
    gateways[2] = replace(gateways[2], faults={"w1": "another key"})
    shown = list(status(Roster(gateways=tuple(gateways))))
    assert shown[-2:] == ["g3 cannot use w1: another key", "g1, g2 cannot use w1: no connection"]


def test_a_silent_worker_is_shown_as_one() -> None:
    entry = WorkerEntry("w1", "tcp://a:1", "host-a")
    states = [replace(entry, ready=False), replace(entry, draining=True), entry]
    shown = [line.split()[2] for line in list(status(Roster(tuple(states), settled=False)))[1:4]]
    assert shown == ["silent", "draining", "ready"]
