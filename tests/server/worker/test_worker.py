"""Workers, in threads and as a process: the same contract, and what happens when one dies."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from engine.backends import registry
from engine.config import RuntimeConfig
from engine.errors import InvalidInput, Unavailable
from engine.runtime.device.engine import Engine
from engine.types import (
    Capacity,
    Control,
    OpenSession,
    Pause,
    Prompt,
    Receipt,
    Resume,
    Rewind,
    SegmentReady,
    SessionClosed,
    SessionInfo,
)
from server.config import WorkerConfig
from server.control.base import SessionEvent
from server.worker.base import Alive, Applied, Event, OnEvent, Worker, WorkerLost
from server.worker.messages import (
    CloseSession,
    Exported,
    ExportSession,
    Packet,
    RequestKeyframe,
    SegmentStats,
    SetViewers,
    SubmitControl,
)
from server.worker.process import ProcessWorker, child_main
from server.worker.stream import Timing
from server.worker.thread import InProcessWorker
from tests.rigs.paths import ROOT
from tests.rigs.server_rig import config, live, until

Make = Callable[[WorkerConfig, OnEvent], Worker]
FAKE = WorkerConfig(backend="fake", runtime=RuntimeConfig(max_sessions=2))
BOTH = pytest.mark.parametrize("make", [InProcessWorker, ProcessWorker])


class Heard(list[Event]):
    """Signs of life aside."""

    def hear(self, event: Event) -> None:
        if not isinstance(event, Alive):
            self.append(event)

    def packets(self) -> list[Packet]:
        return [e for e in self if isinstance(e, Packet)]


@asynccontextmanager
async def working(make: Make, config: WorkerConfig = FAKE) -> AsyncIterator[tuple[Worker, Heard]]:
    heard = Heard()
    worker = make(config, heard.hear)
    ready = await worker.start()
    assert (ready.model, ready.width, ready.height) == ("fake", 160, 96)
    assert ready.segment_ms > 0
    try:
        yield worker, heard
    finally:
        await worker.close()
        await worker.close()


@BOTH
async def test_a_session_is_played_steered_and_closed(make: Make) -> None:
    async with working(make) as (worker, heard):
        worker.send(OpenSession("s", "a red cat", 1))
        worker.send(SetViewers("s", {"vp8": 1, "h264": 1}))
        await until(lambda: len(heard.packets()) > 4, "packets")
        worker.send(SubmitControl("s", Control("c", Prompt("a blue dog", "cut", "now"))))
        await until(lambda: any(isinstance(e, Applied) for e in heard), "applied receipt")
        applied = next(e for e in heard if isinstance(e, Applied))
        frame = applied.receipt.frame
        await until(lambda: any(p.frame == frame for p in heard.packets()), "frame that shows the prompt")
        shown = next(p for p in heard.packets() if p.frame == frame)
        assert shown.pts_90k == pytest.approx(applied.pts_90k, abs=90)
        assert shown.epoch == 1
        worker.send(CloseSession("s"))
        await until(lambda: any(isinstance(e, SessionClosed) for e in heard), "end")
        assert isinstance(next(e for e in heard if not isinstance(e, Capacity)), SessionInfo)
        assert any(isinstance(e, SegmentStats) for e in heard)
        for codec in ("vp8", "h264"):
            own = [p for p in heard.packets() if p.codec == codec]
            assert own[0].keyframe
            assert [p.frame for p in own] == sorted(p.frame for p in own)


async def test_after_a_now_nothing_older_is_shown() -> None:
    ahead = replace(FAKE, runtime=RuntimeConfig(lead_min_s=1.3))
    async with working(InProcessWorker, ahead) as (worker, heard):
        worker.send(OpenSession("s", "a red cat", 1))
        worker.send(SetViewers("s", {"vp8": 1}))
        await until(lambda: len(heard.packets()) > 10, "packets")
        worker.send(SubmitControl("s", Control("c", Prompt("a blue dog", when="now"))))
        await until(lambda: any(p.epoch == 1 for p in heard.packets()), "the new prompt")
        worker.send(SubmitControl("s", Control("r", Rewind(1.0))))
        await until(lambda: any(p.epoch == 2 for p in heard.packets()), "what was before")
        shown = [(p.epoch, p.segment) for p in heard.packets()]
        assert shown == sorted(shown)
        last, first = max(s for e, s in shown if e == 0), min(s for e, s in shown if e == 1)
        assert first > last + 1  # what was queued between them is not shown
        told = [e.receipt.segment for e in heard if isinstance(e, Applied)]
        assert told == [first, min(s for e, s in shown if e == 2)]


async def test_a_session_moves_to_another_worker_as_a_file() -> None:
    async with working(InProcessWorker) as (worker, heard):
        worker.send(OpenSession("s", "a red cat", 7))
        worker.send(SetViewers("s", {"vp8": 1}))
        await until(heard.packets, "packets")
        for n, (session, what) in enumerate((("s", "snapshot"), ("s", "log"), ("nobody", "log"))):
            worker.send(ExportSession(session, str(n), what))  # type: ignore[arg-type]
        await until(lambda: len(exported(heard)) == 3, "exports")
        files = {e.request: e for e in exported(heard)}
    assert files["2"].code == "unknown_session"
    assert (files["1"].data or b"").startswith(b'{"format": "psistream-log-1"')
    async with working(ProcessWorker) as (worker, heard):
        worker.send(OpenSession("t", None, None, snapshot=files["0"].data))
        worker.send(OpenSession("f", None, None, fork_of="t"))
        worker.send(OpenSession("x", None, None, snapshot=b"junk"))
        await until(lambda: len([e for e in heard if isinstance(e, SessionInfo)]) == 2, "sessions")
        await until(lambda: [e for e in heard if isinstance(e, SessionClosed)], "a refusal")
        assert {(e.prompt, e.seed) for e in heard if isinstance(e, SessionInfo)} == {("a red cat", 7)}


def exported(heard: Heard) -> list[Exported]:
    return [e for e in heard if isinstance(e, Exported)]


@BOTH
async def test_mistakes_are_answered_and_others_go_on(make: Make) -> None:
    async with working(make) as (worker, heard):
        picture = np.zeros((3, 5, 5), np.uint8)
        worker.send(OpenSession("odd", "a red cat", 1, picture))
        worker.send(SubmitControl("nobody", Control("c", Pause())))
        for name in ("a", "b", "c"):
            worker.send(OpenSession(name, "a red cat", 1))
        worker.send(RequestKeyframe("nobody", "vp8"))
        worker.send(SetViewers("nobody", {"vp8": 1}))
        worker.send(CloseSession("nobody"))
        worker.send(SubmitControl("a", Control("p", Pause())))
        await until(lambda: any(isinstance(e, Receipt) and e.id == "p" for e in heard), "receipt")
        codes = {e.session: e.code for e in heard if isinstance(e, SessionClosed)}
        assert codes == {"odd": "invalid", "c": "full"}
        assert [e.code for e in heard if isinstance(e, Receipt)] == ["unknown_session", None]


@BOTH
async def test_missing_weights_are_told_in_one_line(make: Make, tmp_path: Path) -> None:
    worker = make(WorkerConfig(backend="onnxruntime", model=str(tmp_path / "nowhere")), lambda event: None)
    with pytest.raises(InvalidInput, match="nowhere") as refused:
        await worker.start()
    assert "\n" not in refused.value.message
    await worker.close()


async def test_a_library_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.MODULES, "reference", "a_library_that_nobody_has")
    with pytest.raises(Unavailable, match="needs a_library_that_nobody_has"):
        await InProcessWorker(WorkerConfig(backend="reference"), lambda event: None).start()


async def test_an_unknown_backend_is_told() -> None:
    with pytest.raises(InvalidInput, match="choose one of"):
        await InProcessWorker(WorkerConfig(backend="abacus"), lambda event: None).start()


@BOTH
async def test_a_closed_worker_takes_nothing(make: Make) -> None:
    async with working(make) as (worker, heard):
        pass
    with pytest.raises(Unavailable):
        worker.send(CloseSession("s"))
    assert not any(isinstance(e, WorkerLost) for e in heard)


async def test_a_killed_process_is_noticed_at_once() -> None:
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
async def test_nothing_of_a_worker_is_left_however_it_ended(number: signal.Signals) -> None:
    """A pipe that is closed while a thread still reads it may be somebody else's file by then."""
    worker = ProcessWorker(FAKE, lambda event: None)
    await worker.start()
    assert worker.pid is not None
    os.kill(worker.pid, number)
    await worker.close()
    assert not [t.name for t in threading.enumerate() if t.name.startswith("worker-")]


async def test_a_device_that_is_broken_for_good_counts_as_a_lost_worker() -> None:
    heard = Heard()
    worker = InProcessWorker(FAKE, heard.hear)
    await worker.start()
    assert worker._device is not None
    worker._device._engine.close()
    worker.send(OpenSession("s", "a red cat", 1))
    await until(lambda: any(isinstance(e, WorkerLost) for e in heard), "loss")
    await worker.close()


def spoil(config: WorkerConfig) -> None:
    """An engine fails, by a fault of ours, once there is a file of this name; the next one does not."""
    step, fault = Engine.step, Path(config.model or "") / "fault"

    def spoiled(self: Engine) -> float | None:
        if self._thread is not None and fault.exists():
            fault.unlink()
            raise KeyError("who knows")
        return step(self)

    Engine.step = spoiled  # type: ignore[method-assign]


def spoiled_child(pipe: Connection, config: WorkerConfig) -> None:
    spoil(config)
    child_main(pipe, config)


@pytest.mark.parametrize("placement", ["process", "thread"])
async def test_sessions_outlive_a_fault_of_the_engine_itself(
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
        worker = gate.supervisor.worker
        gate.listen(heard.append)
        mine = (await server.http.post("/v1/sessions", json={"prompt": "a dog"})).json()["id"]
        (tmp_path / "fault").touch()
        assert (await server.control({"type": "pause", "id": "c"})).status_code == 202  # it wakes up
        await until(lambda: gate.supervisor.worker is not worker and not gate.fault, "the next worker", 60.0)
        await until(lambda: gate.info("main").paused, "what was received")
        assert sorted(gate.session_ids()) == sorted(["main", mine])
        assert not [e for e in heard if isinstance(e, SessionClosed)]
        assert await server.figure("psistream_worker_restarts_total") == 1
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
    """A device that nobody owns would keep its memory for ever."""
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
    """Not even a zombie that its reaper is late for."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


# ---- when is an applied receipt told ----


def segment(first_frame: int, due_s: float) -> SegmentReady:
    return SegmentReady("s", 0, first_frame // 8, first_frame, due_s, np.zeros((8, 2, 2, 3), np.uint8))


def receipt(frame: int, name: str = "c") -> Receipt:
    return Receipt("s", name, "applied", frame // 8, frame)


def test_an_applied_receipt_waits_for_its_segment() -> None:
    timing = Timing(fps=16)
    timing.set_running("s", watched=True)
    timing.segment(segment(0, 10.0))
    assert timing.applied(receipt(8)) == []
    assert timing.segment(segment(8, 10.5)) == [receipt(8)]
    assert timing.due_s(receipt(8)) == 10.5
    assert timing.due_s(receipt(12)) == 10.75


def test_it_does_not_wait_where_no_segment_will_come() -> None:
    timing = Timing(fps=16)
    timing.segment(segment(0, 10.0))
    assert timing.applied(receipt(8)) == [receipt(8)]  # nobody watches
    timing.set_running("s", watched=True)
    assert timing.applied(receipt(8, "pause")) == []
    assert timing.set_running("s", paused=True) == [receipt(8, "pause")]
    assert timing.due_s(receipt(8)) is None


def test_receipts_of_later_segments_go_on_waiting_and_the_end_tells_all() -> None:
    timing = Timing(fps=16)
    timing.set_running("s", watched=True)
    timing.applied(receipt(0, "a"))
    timing.applied(receipt(8, "b"))
    assert timing.segment(segment(0, 1.0)) == [receipt(0, "a")]
    assert timing.forget("s") == [receipt(8, "b")]


async def test_a_paused_session_answers_its_controls() -> None:
    """The receipt of `pause` names a segment that doesn't come until `resume`."""
    async with working(InProcessWorker) as (worker, heard):
        worker.send(OpenSession("s", "a red cat", 1))
        worker.send(SetViewers("s", {"vp8": 1}))
        await until(heard.packets, "packets")
        for name, body in (("p", Pause()), ("x", Prompt("a blue dog")), ("r", Resume())):
            worker.send(SubmitControl("s", Control(name, body)))
            await until(lambda n=name: n in answered(heard), f"answer to {name}")  # type: ignore[misc]
            await asyncio.sleep(0)


def answered(heard: Heard) -> set[str]:
    receipts = [e.receipt if isinstance(e, Applied) else e for e in heard]
    return {r.id for r in receipts if isinstance(r, Receipt) and r.status == "applied"}
