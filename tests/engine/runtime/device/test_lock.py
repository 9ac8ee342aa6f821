"""The engine's lock is never held while a state is serialised: other sessions go on meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from engine.runtime.state import snapshot
from engine.types import OpenSession, Prompt
from tests.rigs.engine.fakes import TINY_SPEC, Rig

WAIT_S = 20.0


def interrupted(monkeypatch: pytest.MonkeyPatch, name: str, work: Callable[[], object], rig: Rig) -> None:
    """Do `work` on another thread and stop it in snapshot.`name`; `rig` must go on meanwhile."""
    real: Callable[..., Any] = getattr(snapshot, name)
    entered, resume = threading.Event(), threading.Event()

    def stopped(*args: Any) -> Any:
        entered.set()
        assert resume.wait(WAIT_S)
        return real(*args)

    monkeypatch.setattr(snapshot, name, stopped)
    worker = threading.Thread(target=work)
    worker.start()
    assert entered.wait(WAIT_S)
    rig.submit(Prompt("a blue fox"), session="s")
    assert len(rig.run_segments(2, "s")) == 2
    assert rig.receipts("s")[-1].status == "applied"
    resume.set()
    worker.join(WAIT_S)
    assert not worker.is_alive()


def test_other_sessions_go_on_while_a_snapshot_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(spec=TINY_SPEC)
    rig.open()
    rig.run_segments(2)
    data = rig.engine.take("s", "snapshot").data
    interrupted(monkeypatch, "load", lambda: rig.engine.open(OpenSession("new", None, 7, snapshot=data)), rig)
    rig.engine.set_watched("new", True)
    assert rig.run_segments(1, "new")


@pytest.mark.parametrize("what", ["snapshot", "log"])
def test_other_sessions_go_on_while_one_is_exported(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    rig = Rig(spec=TINY_SPEC)
    rig.open()
    rig.run_segments(2)
    rig.engine.open(OpenSession("fork", None, None, fork_of="s"))  # its log starts from a state
    rig.engine.set_watched("fork", True)
    rig.run_segments(2, "fork")
    interrupted(monkeypatch, "save", lambda: rig.engine.take("fork", what).data, rig)


def test_forking_and_rewinding_serialise_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> bytes:
        raise AssertionError("a state was serialised")

    monkeypatch.setattr(snapshot, "save", never)
    rig = Rig(spec=TINY_SPEC)
    rig.open()
    rig.run_segments(4)
    before = {id(part) for part in rig.session("s").timeline.state.parts()}
    rig.engine.open(OpenSession("fork", None, None, fork_of="s", rewind_s=0.0))
    after = {id(part) for part in rig.session("fork").timeline.state.parts()}
    assert len(before & after) > len(after) // 2  # references, not copies
