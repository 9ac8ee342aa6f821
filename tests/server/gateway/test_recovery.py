"""Recovery records: controls, snapshots, and continued numbers."""

from __future__ import annotations

from dataclasses import replace

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
from server.worker.messages.events import SegmentStats
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


def test_a_control_that_a_late_snapshot_contains_is_not_submitted_again() -> None:
    """A busy worker took the snapshot after the control's first segment was shown; it was applied twice."""
    recovery = kept(Prompt("a"), Prompt("b"))
    recovery.asked(0.0)
    for name, segment in (("c0", 3), ("c1", 4)):
        recovery.answered(Receipt("s", name, "applied", segment, 8 * segment))
    recovery.played(stats(segment=3))
    recovery.taken(b"1", 1.0, 3)
    assert ids(recovery) == ["c1"]


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
    progress.packet(packet(1), 8, 0.0625)
    assert progress.interrupted(0.0625).media_90k == 5626
    assert progress.interrupted(1.0625).media_90k == 95_625
    progress.info(opened(OpenSession("main", None, None)))
    progress.stats(stats(segment=3), 8, 0.0625)
    progress.info(opened(OpenSession("main", None, None)))
    assert progress.interrupted(0.0625) == Numbers(1, 4, 32, 5626)


def test_a_segment_whose_first_frame_was_shown_is_not_shown_again() -> None:
    """Its figures follow the first packet, and were lost with the worker."""
    progress = SessionProgress()
    progress.stats(stats(segment=3), 8, 1.0)
    progress.packet(packet(31), 8, 1.4)
    assert progress.interrupted(1.4) == Numbers(1, 4, 32, 31 * 5625 + 1)
    progress.packet(packet(32), 8, 1.5)
    assert progress.interrupted(1.5) == Numbers(1, 5, 40, 32 * 5625 + 1)
    assert progress.begun == 4


def test_media_time_goes_on_where_only_other_gateways_watch() -> None:
    """The owner of a session that it has no viewers of gets no packets of it."""
    progress = SessionProgress()
    progress.stats(replace(stats(segment=3), pts_90k=45_000), 8, 2.0)
    assert progress.interrupted(3.0) == Numbers(1, 4, 32, 135_000)
    progress.packet(packet(9), 8, 2.1)
    progress.stats(replace(stats(segment=4), pts_90k=45_000), 8, 9.0)
    assert progress.interrupted(2.1).media_90k == 9 * 5625 + 1


def test_a_worker_that_may_run_on_is_left_behind() -> None:
    """Other gateways show what it does until they follow: no number may come twice there."""
    progress = SessionProgress()
    progress.stats(SegmentStats("s", 0, 3, 24, {}, 0.0, 0, 0, 0, 0.0, pts_90k=270_000), 8, 10.0)
    assert progress.interrupted(12.0) == Numbers(1, 4, 32, 450_000)
    far = progress.beyond(12.0, 0.0, frames=8, fps=16)  # four segments and what it is ahead
    assert (far.segment, far.frame) == (4 + 6, 32 + 6 * 8)
    assert far.media_90k > 450_000
    later = progress.beyond(1000.0, 0.0, frames=8, fps=16)
    assert later.segment < 4 + 2 * 20 + 3, "it stops without its gateway"
    unseen = SessionProgress().beyond(12.0, 10.0, frames=8, fps=16)  # it was out of reach at once
    assert (unseen.segment, unseen.frame) == (6, 48)
    assert unseen.media_90k > 180_000


def test_what_a_worker_said_when_it_was_claimed_counts_too() -> None:
    progress = SessionProgress()
    progress.claimed(4, 32, 300_000, now_s=10.0)
    assert progress.interrupted(11.0) == Numbers(1, 4, 32, 390_000)
