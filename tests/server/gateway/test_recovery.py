"""What the gateway keeps of a session for its next life: controls, snapshots, and where its numbers were."""

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
from server.gateway.numbering import Continuity
from server.gateway.recovery import Keepsake
from tests.rigs.server_rig import opened, packet, stats


def kept(*bodies: ControlBody) -> Keepsake:
    keepsake = Keepsake(OpenSession("s", "a fox", 1))
    for i, body in enumerate(bodies):
        keepsake.submitted(Control(f"c{i}", body))
    return keepsake


def ids(keepsake: Keepsake) -> list[str]:
    return [control.id for control in keepsake.since()]


def test_of_keys_and_pauses_only_the_latest_counts() -> None:
    bodies = (Action("left"), Prompt("a"), Pause(), Action(None), Resume(), Prompt("b"))
    assert ids(kept(*bodies)) == ["c1", "c3", "c4", "c5"]


def test_what_is_kept_is_bounded_and_what_was_on_the_screen_goes_first() -> None:
    keepsake = kept(*(Prompt(str(i)) for i in range(64)))
    keepsake.answered(Receipt("s", "c9", "applied", 3, 24))
    keepsake.played(stats(segment=3))
    keepsake.submitted(Control("new", Prompt("new")))
    keepsake.submitted(Control("newer", Prompt("newer")))
    assert ids(keepsake) == [f"c{i}" for i in range(1, 64) if i != 9] + ["new", "newer"]


def test_a_control_is_done_again_until_a_snapshot_was_asked_for_after_it_was_shown() -> None:
    keepsake = kept(Prompt("a"))
    keepsake.asked(0.0)
    keepsake.answered(Receipt("s", "c0", "applied", 3, 24))
    keepsake.played(stats(segment=2))
    keepsake.taken(b"1", 1.0)
    keepsake.asked(1.0)
    keepsake.played(stats(segment=3))  # after the question
    keepsake.taken(b"2", 2.0)
    assert ids(keepsake) == ["c0"]
    keepsake.answered(Receipt("s", "c0", "applied", 3, 24))
    keepsake.played(stats(segment=3))
    keepsake.asked(3.0)
    keepsake.taken(None, 4.0)  # there was no answer
    assert ids(keepsake) == ["c0"]
    keepsake.answered(Receipt("s", "c0", "rejected", code="invalid"))
    assert ids(keepsake) == []


def test_a_snapshot_is_taken_now_and_then_and_only_where_something_changed() -> None:
    keepsake = kept()
    assert keepsake.due(0.0, 5.0)
    keepsake.asked(0.0)
    keepsake.played(stats())
    assert not keepsake.due(9.0, 5.0)  # the last one has not come
    keepsake.taken(b"1", 10.0)
    assert not keepsake.due(14.0, 5.0)
    assert keepsake.due(15.0, 5.0)
    keepsake.asked(15.0)
    keepsake.taken(b"2", 15.0)
    assert not keepsake.due(99.0, 5.0)  # paused, or unwatched


def test_a_fork_without_a_snapshot_cannot_begin_again() -> None:
    keepsake = Keepsake(OpenSession("f", None, None, fork_of="s"))
    assert keepsake.again("f") is None
    keepsake.taken(b"1", 0.0)
    assert keepsake.again("f") == OpenSession("f", None, None, snapshot=b"1")


def test_what_began_with_a_snapshot_and_another_prompt_begins_so_again() -> None:
    origin = OpenSession("s", "a fox", 7, snapshot=b"0")
    keepsake = Keepsake(origin)
    assert keepsake.again("s") == origin
    keepsake.taken(b"1", 0.0)
    assert keepsake.again("s") == OpenSession("s", None, None, snapshot=b"1")


def test_numbers_never_go_back() -> None:
    numbers = Continuity()
    assert [numbers.packet(packet(f), f / 16).pts_90k for f in (0, 1)] == [0, 5625]
    for _ in range(2):
        numbers.interrupted()
        assert numbers.pts(5) is None
        first = numbers.packet(packet(1000), 0.0625)
        assert numbers.pts(first.pts_90k) is not None
    assert first.pts_90k == 5627
    info = numbers.info(opened(OpenSession("main", None, None)))
    again = numbers.info(opened(OpenSession("main", None, None)))
    assert info == again
    numbers.interrupted()
    assert numbers.info(opened(OpenSession("main", None, None))).epoch == info.epoch + 1
