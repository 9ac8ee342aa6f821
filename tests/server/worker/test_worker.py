"""Workers, in threads and as a process: the same contract, and what happens when one dies."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.backends import registry
from engine.config import RuntimeConfig
from engine.errors import InvalidInput, Unavailable
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
from server.worker.base import Applied, Numbers, RestoreSession
from server.worker.core import WorkerCore
from server.worker.messages.commands import (
    CloseSession,
    ExportSession,
    RequestKeyframe,
    SetViewers,
    SubmitControl,
)
from server.worker.messages.events import Exported, SegmentStats
from server.worker.process import ProcessWorker
from server.worker.stream import Timing
from server.worker.thread import InProcessWorker
from tests.rigs.server.fake_device import MAX_LOAD
from tests.rigs.server.server_rig import until
from tests.server.worker.working import BOTH, FAKE, Heard, Make, working


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
    ahead = replace(FAKE, runtime=RuntimeConfig(lead_min_s=1.3, max_load=MAX_LOAD))
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


@BOTH
async def test_a_session_that_another_worker_ran_counts_on(make: Make) -> None:
    """In everything that its new worker says of it, to whichever gateway."""
    async with working(make) as (worker, heard):
        opening, numbers = OpenSession("s", "a red cat", 7), Numbers(3, 100, 800, 9_000_000)
        worker.send(RestoreSession(opening, (SetViewers("s", {"vp8": 1}),), numbers=numbers))
        worker.send(SubmitControl("s", Control("c", Prompt("a blue dog"))))
        await until(lambda: any(isinstance(e, Applied) for e in heard), "applied receipt")
        applied = next(e for e in heard if isinstance(e, Applied))
        await until(lambda: any(p.frame == applied.receipt.frame for p in heard.packets()), "its frame")
        shown = next(p for p in heard.packets() if p.frame == applied.receipt.frame)
        assert shown.pts_90k == pytest.approx(applied.pts_90k, abs=90)
        for n, what in enumerate(("snapshot", "log")):
            worker.send(ExportSession("s", str(n), what))  # type: ignore[arg-type]
        await until(lambda: len(exported(heard)) == 2, "exports")
        first = heard.packets()[0]
        assert (first.epoch, first.segment, first.frame) == (3, 100, 800)
        assert first.pts_90k >= 9_000_000
        assert all(p.frame == 8 * p.segment + p.frame % 8 for p in heard.packets())
        infos = [e for e in heard if isinstance(e, SessionInfo)]
        assert (infos[0].epoch, infos[0].segment, infos[0].frame) == (3, 100, 800)
        assert min(e.segment for e in heard if isinstance(e, SegmentStats)) == 100
        snapshot, log = sorted(exported(heard), key=lambda e: e.request)
        assert snapshot.segment >= 100
        assert snapshot.end_90k >= heard.packets()[0].pts_90k
        assert b'"before": 100' in (log.data or b"")


def exported(heard: Heard) -> list[Exported]:
    return [e for e in heard if isinstance(e, Exported)]


@BOTH
async def test_errors_are_answered_and_other_sessions_continue(make: Make) -> None:
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
async def test_missing_weights_are_reported_in_one_line(make: Make, tmp_path: Path) -> None:
    worker = make(WorkerConfig(backend="onnxruntime", model=str(tmp_path / "nowhere")), lambda event: None)
    with pytest.raises(InvalidInput, match="nowhere") as refused:
        await worker.start()
    assert "\n" not in refused.value.message
    await worker.close()


async def test_a_missing_library_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.MODULES, "reference", "a_library_that_nobody_has")
    with pytest.raises(Unavailable, match="needs a_library_that_nobody_has"):
        await InProcessWorker(WorkerConfig(backend="reference"), lambda event: None).start()


async def test_an_unknown_backend_is_reported() -> None:
    with pytest.raises(InvalidInput, match="choose one of"):
        await InProcessWorker(WorkerConfig(backend="abacus"), lambda event: None).start()


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


def test_a_receipt_does_not_wait_if_no_segment_will_come() -> None:
    timing = Timing(fps=16)
    timing.segment(segment(0, 10.0))
    assert timing.applied(receipt(8)) == [receipt(8)]  # nobody watches
    timing.set_running("s", watched=True)
    assert timing.applied(receipt(8, "pause")) == []
    assert timing.set_running("s", paused=True) == [receipt(8, "pause")]
    assert timing.due_s(receipt(8)) is None


def test_receipts_of_later_segments_stay_pending_until_the_session_ends() -> None:
    timing = Timing(fps=16)
    timing.set_running("s", watched=True)
    timing.applied(receipt(0, "a"))
    timing.applied(receipt(8, "b"))
    assert timing.segment(segment(0, 1.0)) == [receipt(0, "a")]
    assert timing.forget("s") == [receipt(8, "b")]


async def test_a_paused_session_answers_its_controls() -> None:
    """The receipt of `pause` names a segment that is not made before `resume`."""
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


async def test_what_is_said_of_a_session_that_has_ended_is_not_kept() -> None:
    core = WorkerCore(FAKE, lambda event: None)
    for number in range(20):
        core.handle(SetViewers(f"s{number}", {"vp8": 1}))
        core.handle(RequestKeyframe(f"s{number}", "vp8"))
        core.handle(CloseSession(f"s{number}"))
    assert not core._timing._sessions
    core.close()
