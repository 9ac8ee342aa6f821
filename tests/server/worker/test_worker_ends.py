"""How workers end: closed, killed, failed, or orphaned."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from engine.errors import Unavailable
from engine.runtime.device.engine import Engine
from engine.types import (
    OpenSession,
    SessionClosed,
)
from server.config import WorkerConfig
from server.control.base import SessionEvent
from server.worker.base import WorkerLost
from server.worker.messages.commands import CloseSession
from server.worker.process import IMPORTS_S, ProcessWorker, child_main
from server.worker.remote import WorkerLink
from server.worker.thread import InProcessWorker
from server.worker.wire.connection import GREETING_S, Connection
from tests.rigs.paths import ROOT
from tests.rigs.server.server_rig import config, live, until
from tests.server.worker.working import BOTH, FAKE, Heard, Make, working


@BOTH
async def test_a_closed_worker_accepts_nothing(make: Make) -> None:
    async with working(make) as (worker, heard):
        pass
    with pytest.raises(Unavailable):
        worker.send(CloseSession("s"))
    assert not any(isinstance(e, WorkerLost) for e in heard)


async def test_a_killed_process_is_detected_at_once() -> None:
    heard = Heard()
    worker = ProcessWorker(FAKE, heard.hear)
    await worker.start()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    await until(lambda: any(isinstance(e, WorkerLost) for e in heard), "obituary")
    assert heard[-1] == WorkerLost("the worker was killed by signal 9 (Killed)")
    with pytest.raises(Unavailable):
        worker.send(CloseSession("s"))
    await worker.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_nothing_of_a_worker_is_left_behind(number: signal.Signals) -> None:
    """If a pipe is closed while a thread still reads it, its descriptor may belong to another file by
    then."""
    worker = ProcessWorker(FAKE, lambda event: None)
    await worker.start()
    assert worker.pid is not None
    os.kill(worker.pid, number)
    await worker.close()
    assert not [t.name for t in threading.enumerate() if t.name.startswith("worker-")]


async def test_a_permanently_failed_device_counts_as_a_lost_worker() -> None:
    heard = Heard()
    worker = InProcessWorker(FAKE, heard.hear)
    await worker.start()
    assert worker._device is not None
    worker._device._engine.close()
    worker.send(OpenSession("s", "a red cat", 1))
    await until(lambda: any(isinstance(e, WorkerLost) for e in heard), "loss")
    await worker.close()


def spoil(config: WorkerConfig) -> None:
    """An engine that fails once a file of this name exists; the next one does not."""
    step, fault = Engine.step, Path(config.model or "") / "fault"

    def spoiled(self: Engine) -> float | None:
        if self._thread is not None and fault.exists():
            fault.unlink()
            raise KeyError("who knows")
        return step(self)

    Engine.step = spoiled  # type: ignore[method-assign]


def spoiled_child(own: socket.socket, config: WorkerConfig) -> None:
    spoil(config)
    child_main(own, config)


@pytest.mark.parametrize("placement", ["process", "thread"])
async def test_sessions_survive_an_error_of_the_engine_itself(
    placement: Literal["process", "thread"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fake.json").write_text("{}")
    settings = config(worker=replace(FAKE, model=str(tmp_path)), placement=placement)
    monkeypatch.setattr("server.worker.process.child_main", spoiled_child)
    monkeypatch.setattr(Engine, "step", Engine.step)  # so that it is put back
    if placement == "thread":
        spoil(settings.worker)
    async with live(settings) as server:
        gate, heard = server.services.gateway, list[SessionEvent]()
        worker = gate.fleet.first.worker
        gate.listen(heard.append)
        mine = (await server.http.post("/v1/sessions", json={"prompt": "a dog"})).json()["id"]
        (tmp_path / "fault").touch()
        assert (await server.control({"type": "pause", "id": "c"})).status_code == 202  # it wakes up
        await until(lambda: gate.fleet.first.worker is not worker and not gate.fault, "the next worker", 60.0)
        await until(lambda: gate.info("main").paused, "what was received")
        assert sorted(gate.session_ids()) == sorted(["main", mine])
        assert not [e for e in heard if isinstance(e, SessionClosed)]
        assert await server.figure('psistream_worker_restarts_total{worker="w1"}') == 1
        if isinstance(worker, ProcessWorker):
            assert worker._process is not None
            assert worker._process.exitcode == 1


PARENT = """
import asyncio, sys
from server.config import WorkerConfig
from server.worker.process import ProcessWorker
from tests.rigs.paths import ROOT
async def main():
    worker = ProcessWorker(WorkerConfig(backend="fake"), lambda event: None)
    await worker.start()
    print(worker.pid, flush=True)
    await asyncio.sleep(60)
if __name__ == "__main__":
    asyncio.run(main())
"""


def test_a_worker_does_not_outlive_its_parent(tmp_path: Path) -> None:
    """Otherwise a device without an owner would keep its memory forever."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    end_s = time.monotonic() + 20
    while alive(child) and time.monotonic() < end_s:
        time.sleep(0.02)
    assert not alive(child)


def alive(pid: int) -> bool:
    """A zombie that has not been reaped yet does not count as alive."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def test_a_child_may_take_longer_to_start_than_a_stranger_to_answer() -> None:
    """On a busy machine Python alone takes more than ten seconds to start, and the server gave up."""
    assert IMPORTS_S > 10 * GREETING_S
    ours, theirs = socket.socketpair()

    async def connect(make: Callable[[], Connection]) -> None:
        await asyncio.get_running_loop().create_connection(make, sock=ours)

    with theirs:
        link = WorkerLink(lambda event: None, lambda why: None)
        with pytest.raises(Unavailable, match=r"did not answer within 0\.01 s"):
            await link.meet(connect, b"", 0.01)
        await link.finish()


async def test_ctrl_c_does_not_end_a_child_that_starts(capfd: pytest.CaptureFixture[str]) -> None:
    """It reaches the whole process group. The child printed a traceback while it imported."""
    worker = ProcessWorker(FAKE, lambda event: None)
    starting = asyncio.create_task(worker.start())
    await until(lambda: worker.pid, "the child")
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGINT)
    try:
        assert (await starting).model == "fake"
    finally:
        await worker.close()
    assert "Traceback" not in capfd.readouterr().err
