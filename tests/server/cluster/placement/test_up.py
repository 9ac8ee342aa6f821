"""`psistream cluster up --workers` on this machine, as people run it: real processes, without Ray."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.errors import InvalidInput
from server import cli
from server.cluster.membership import Membership
from server.cluster.messages import PlacementReport, Roster, Watch
from server.cluster.operating import ask
from server.cluster.placing import placing_of
from server.worker.hosting.listen import Listen
from server.worker.remote import WorkerAddress
from tests.rigs.waiting import LONG_S, until

UP = ["-m", "server.cli", "cluster", "up", "--listen", "127.0.0.1:0"]


class Cluster:
    """A running `psistream cluster up`, and what its directory tells."""

    def __init__(self, process: asyncio.subprocess.Process, address: WorkerAddress) -> None:
        self.process, self.address = process, address
        self.roster = Roster()

    @property
    def placement(self) -> PlacementReport:
        return self.roster.placement or PlacementReport(0)

    @property
    def ready(self) -> set[str]:
        return {worker.name for worker in self.roster.workers if worker.ready}

    async def has(self, count: int) -> set[str]:
        """Wait until this number of workers has joined, all of them placed. Returns their names."""

        def all_run() -> bool:
            running = {worker.name for worker in self.placement.workers if worker.stage == "running"}
            return len(self.ready) == count and running == self.ready

        await until(all_run, f"{count} workers", 2 * LONG_S)
        return self.ready


@contextlib.asynccontextmanager
async def cluster(*options: str) -> AsyncIterator[Cluster]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *UP, *options, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        made = Cluster(process, WorkerAddress.parse(line.split()[-1], "--directory"))

        def told(roster: Roster) -> None:
            made.roster = roster

        async with Membership(made.address, b"", None, Watch, told):
            yield made
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


def pid_of(url: str) -> int:
    """Of the worker that listens there."""
    port = f"{int(url.rpartition(':')[2]):04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *rest = line.split()
        if local.endswith(f":{port}") and state == "0A":
            inode = rest[5]
            for folder in Path("/proc").glob("[0-9]*/fd"):
                with contextlib.suppress(OSError):
                    if any(os.readlink(each) == f"socket:[{inode}]" for each in folder.iterdir()):
                        return int(folder.parent.name)
    raise AssertionError(f"nobody listens at {url}")


async def test_workers_are_placed_replaced_drained_and_ended(capsys: pytest.CaptureFixture[str]) -> None:
    async with cluster("--workers", "2", "--backend", "fake") as up:
        before = await up.has(2)
        assert up.placement.notes == ()
        first = min(up.roster.workers, key=lambda worker: worker.name)
        os.kill(pid_of(first.url), signal.SIGKILL)
        await until(lambda: first.name not in up.ready, "loss of the worker")
        after = await up.has(2)
        assert before - after == {first.name}
        assert f"{first.name} ended: killed by SIGKILL" in "\n".join(up.placement.notes)

        await ask("scale", up.address, b"", None, workers=1)
        (left,) = await up.has(1)
        assert left in after
        url = next(worker.url for worker in up.roster.workers if worker.name == left)
        await ask("status", up.address, b"", None)
        assert "1 of 1 wanted workers are running" in capsys.readouterr().out

        await ask("down", up.address, b"", None)
        assert (
            capsys.readouterr().out
            == "the directory and the workers that it had placed have ended; gateways go on\n"
        )
        assert await up.process.wait() == 0
        with pytest.raises(AssertionError, match="nobody listens"):
            pid_of(url)


async def test_a_worker_that_cannot_start_is_explained(tmp_path: Path) -> None:
    """Here with a model that was fine when the directory started."""
    model = tmp_path / "model"
    model.mkdir()
    async with cluster("--workers", "0", "--backend", "fake", "--model", str(model)) as up:
        await until(lambda: up.roster.placement is not None, "roster")
        model.rmdir()
        await ask("scale", up.address, b"", None, workers=1)
        await until(lambda: any(str(model) in note for note in up.placement.notes), "reason", 2 * LONG_S)
        assert not up.ready


def test_files_of_the_workers_are_checked_before_one_is_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They were started again and again, and only `status` said why."""
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "config.json").write_text('{"format": 1, "preset": "framepack-f1"}')
    (tmp_path / "text").write_text("neither picture nor key")
    helios = f"--model helios --weights {tmp_path / 'weights'}"
    (tmp_path / "weights").mkdir()
    for told, why in {
        "--model /nowhere/at/all": "--model: /nowhere/at/all is neither a folder",
        f"--model {tmp_path}": "manifest.json is not a manifest",
        "--model helios --weights /nowhere": "--weights: /nowhere is no folder",
        helios: "config.json not found: --weights must name a folder made by `psistream convert helios`",
        f"--backend fake --image {tmp_path / 'text'}": "--image: ",
        "--backend fake --image none.png": "--image: cannot read none.png",
        "--backend fake --video none.mp4": "--video: none.mp4 cannot be read",
        f"{helios} --video none.mp4": "config.json not found",
        "--backend fake --join-ca none.pem": "--join-ca belongs to --join tls://",
        "--backend fake --worker-tls-cert c.pem --worker-tls-key k.pem": "cannot read c.pem",
        "--backend fake --max-gateways 0": "--max-gateways must be 1 to 256",
        "--backend fake --codecs nonsense": "--codecs",
        f"--backend fake --key-file {tmp_path / 'text'}": "line 1: the key may contain only ASCII",
    }.items():
        assert cli.main(["cluster", "up", "--workers", "1", *told.split()]) == 2, told
        shown = capsys.readouterr()
        assert why in shown.err
        assert (shown.out, shown.err.count("\n")) == ("", 1)


async def test_without_workers_nothing_is_placed() -> None:
    async with cluster() as up:
        await until(lambda: up.roster.gateways == () and up.roster is not None, "roster")
        assert up.roster.placement is None
        with pytest.raises(InvalidInput, match="this directory places no workers"):
            await ask("scale", up.address, b"", None, workers=3)


def test_paths_mean_the_same_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from server.cluster.command import parser

    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    told = ["up", "--workers", "1", "--ray", "auto", "--model", "model", "--image=model"]
    placing = placing_of(*with_listen(parser().parse_known_args(told), b"key"))
    assert placing is not None
    assert placing.options[:3] == ("--model", str(tmp_path / "model"), f"--image={tmp_path / 'model'}")
    helios = placing_of(*with_listen(parser().parse_known_args([*told[:5], "--model", "helios"]), b"key"))
    assert helios is not None
    assert helios.options[:2] == ("--model", "helios")


def test_options_that_mean_nothing_are_named() -> None:
    from server.cluster.command import parser

    for told, why in {
        "up --backend fake": "--backend fake; options of workers need --workers",
        "up --ray auto": "--ray belongs to --workers",
        "up --worker-tls-cert c.pem": "--worker-tls-cert belongs to --workers",
        "up --workers 1 --ray auto": "workers on Ray listen on their hosts' addresses: give --key-file",
        "up --workers 1 --host-label gpu=h100": "--host-label belongs to --ray",
        "up --workers 1 --worker-tls-cert c.pem": "belong together",
    }.items():
        with pytest.raises(InvalidInput, match=why):
            placing_of(*with_listen(parser().parse_known_args(told.split())))


def test_mistakes_of_those_who_ask_are_told_without_asking(capsys: pytest.CaptureFixture[str]) -> None:
    for told, why in {
        "scale -1": "N must be 0 to 1024, not -1",
        # was "has not answered yet"
        "status --directory tls://127.0.0.1:1 --ca none.pem": "--ca: cannot read none.pem",
    }.items():
        assert cli.main(["cluster", *told.split()]) == 2
        assert why in capsys.readouterr().err


def with_listen(
    parsed: tuple[argparse.Namespace, list[str]], key: bytes = b""
) -> tuple[argparse.Namespace, Listen, list[str]]:
    return parsed[0], Listen("127.0.0.1", 7700, key), parsed[1]
