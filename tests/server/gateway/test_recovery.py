"""Recovery records: controls, snapshots, and continued numbers."""

from __future__ import annotations

from engine.types import (
    Action,
    Control,
    ControlBody,
    OpenSession,
    Pause,
    Prompt,
    Receipt,
    Resume,
)
from server.gateway.numbering import SessionProgress
from server.gateway.recovery import RecoveryRecord
from server.worker.base import Numbers
from tests.rigs.server.server_rig import opened, packet, stats


def kept(*bodies: ControlBody) -> RecoveryRecord:
    recovery = RecoveryRecord(OpenSession("s", "a fox", 1))
    for i, body in enumerate(bodies):
        recovery.submitted(Control(f"c{i}", body))
    return recovery


def ids(recovery: RecoveryRecord) -> list[str]:
    return [control.id for control in recovery.since()]


def test_of_keys_and_pauses_only_the_latest_counts() -> None:
    bodies = (Action("left"), Prompt("a"), Pause(), Action(None), Resume(), Prompt("b"))
    assert ids(kept(*bodies)) == ["c1", "c3", "c4", "c5"]


def test_records_are_bounded_and_shown_controls_are_dropped_first() -> None:
    recovery = kept(*(Prompt(str(i)) for i in range(64)))
    recovery.answered(Receipt("s", "c9", "applied", 3, 24))
    recovery.played(stats(segment=3))
    recovery.submitted(Control("new", Prompt("new")))
    recovery.submitted(Control("newer", Prompt("newer")))
    assert ids(recovery) == [f"c{i}" for i in range(1, 64) if i != 9] + ["new", "newer"]


def test_a_control_is_kept_until_a_snapshot_is_requested_after_it_was_shown() -> None:
    recovery = kept(Prompt("a"))
    recovery.asked(0.0)
    recovery.answered(Receipt("s", "c0", "applied", 3, 24))
    recovery.played(stats(segment=2))
    recovery.taken(b"1", 1.0)
    recovery.asked(1.0)
    recovery.played(stats(segment=3))  # after the request
    recovery.taken(b"2", 2.0)
    assert ids(recovery) == ["c0"]
    recovery.answered(Receipt("s", "c0", "applied", 3, 24))
    recovery.played(stats(segment=3))
    recovery.asked(3.0)
    recovery.taken(None, 4.0)  # there was no answer
    assert ids(recovery) == ["c0"]
    recovery.answered(Receipt("s", "c0", "rejected", code="invalid"))
    assert ids(recovery) == []


def test_snapshots_are_taken_at_intervals_and_only_after_changes() -> None:
    recovery = kept()
    assert recovery.due(0.0, 5.0)
    recovery.asked(0.0)
    recovery.played(stats())
    assert not recovery.due(9.0, 5.0)  # the last one has not arrived
    recovery.taken(b"1", 10.0)
    assert not recovery.due(14.0, 5.0)
    assert recovery.due(15.0, 5.0)
    recovery.asked(15.0)
    recovery.taken(b"2", 15.0)
    assert not recovery.due(99.0, 5.0)  # paused, or unwatched


def test_a_fork_without_a_snapshot_cannot_be_reopened() -> None:
    recovery = RecoveryRecord(OpenSession("f", None, None, fork_of="s"))
    assert recovery.reopening("f") is None
    recovery.taken(b"1", 0.0)
    assert recovery.reopening("f") == OpenSession("f", None, None, snapshot=b"1")


def test_a_session_opened_from_a_snapshot_with_another_prompt_is_reopened_the_same_way() -> None:
    origin = OpenSession("s", "a fox", 7, snapshot=b"0")
    recovery = RecoveryRecord(origin)
    assert recovery.reopening("s") == origin
    recovery.taken(b"1", 0.0)
    assert recovery.reopening("s") == OpenSession("s", None, None, snapshot=b"1")


def test_numbers_never_go_back() -> None:
    progress = SessionProgress()
    assert progress.interrupted(9.0) == Numbers()
    progress.packet(packet(1), 0.0625)
    assert progress.interrupted(0.0625).media_90k == 5626
    assert progress.interrupted(1.0625).media_90k == 95_625
    progress.info(opened(OpenSession("main", None, None)))
    progress.stats(stats(segment=3), 8)
    progress.info(opened(OpenSession("main", None, None)))
    assert progress.interrupted(0.0625) == Numbers(1, 4, 32, 5626)
