"""When the engine makes segments: ahead of playout, paused, unwatched, overloaded."""

from __future__ import annotations

from itertools import pairwise

import pytest

from engine.backends.fake import FAKE_SPEC
from engine.config import RuntimeConfig
from engine.types import (
    OpenSession,
    Pause,
    Prompt,
    Resume,
)
from tests.engine.runtime.device.frames import frames
from tests.rigs.engine.fakes import TINY_SPEC, Rig

SEGMENT_S = FAKE_SPEC.segment_s


def test_playout_is_seamless_and_generation_never_more_than_one_lead_ahead() -> None:
    rig = Rig(delay_s=0.05)
    rig.open()
    rig.run(10.0)
    segments = rig.segments()
    assert len(segments) == 20
    assert all(b.due_s - a.due_s == pytest.approx(SEGMENT_S) for a, b in pairwise(segments))
    assert segments[-1].late_total == 0
    assert 0 < segments[-1].lead_s < 0.05  # ready just in time, so that steering takes hold fast
    assert segments[-1].timings_ms["denoise"] == pytest.approx(100)
    assert segments[-1].timings_ms["total"] == pytest.approx(100)


def test_a_cut_starts_earlier_because_it_takes_more_steps() -> None:
    rig = Rig(delay_s=0.05)
    rig.open()
    rig.run_segments(20)
    rig.submit(Prompt("night", how="cut"))
    rig.run_segments(5)
    assert rig.segments()[-1].late_total == 0
    assert all(b.due_s - a.due_s == pytest.approx(SEGMENT_S) for a, b in pairwise(rig.segments()))


def test_a_stall_is_counted_once_and_playout_goes_on_from_there() -> None:
    rig = Rig(delay_s=0.02)
    rig.open()
    rig.run(3.0)
    before = rig.segments()[-1]
    rig.clock.advance(7.0)
    rig.run(3.0)
    after = [s for s in rig.segments() if s.segment > before.segment]
    assert after[0].late_total == after[-1].late_total == 1
    assert after[0].due_s > before.due_s + 6.0
    assert all(b.due_s - a.due_s == pytest.approx(SEGMENT_S) for a, b in pairwise(after))


def test_a_paused_session_makes_nothing_takes_controls_and_goes_on_without_being_late() -> None:
    rig = Rig(delay_s=0.01)
    rig.open(prompt="a red fox")
    rig.run(2.0)
    rig.submit(Pause())
    rig.run(0.1)
    made = len(rig.segments())
    assert rig.infos()[-1].paused
    rig.run(60.0)
    rig.submit(Prompt("night"))
    rig.run(60.0)
    assert len(rig.segments()) == made
    assert [r.status for r in rig.receipts()] == ["applied", "applied"]
    resumed_s = rig.clock()
    rig.submit(Resume())
    rig.run(2.0)
    after = rig.segments()[made:]
    assert after[0].segment == made == rig.receipts()[-1].segment
    assert after[0].due_s == pytest.approx(resumed_s + 0.02 + rig.engine.config.late_margin_s)
    assert after[-1].late_total == 0
    assert not rig.infos()[-1].paused


def test_pausing_for_a_moment_does_not_show_two_segments_at_once() -> None:
    rig = Rig()
    rig.open()
    rig.run_segments(2)
    rig.submit(Pause())
    rig.engine.step()
    rig.submit(Resume())
    rig.run_segments(2)
    assert all(b.due_s - a.due_s == pytest.approx(SEGMENT_S) for a, b in pairwise(rig.segments()))


def test_an_unwatched_session_stops_after_the_grace_period_and_goes_on_where_it_was() -> None:
    def run(pause_s: float) -> list[bytes]:
        rig = Rig(config=RuntimeConfig(idle_grace_s=2.0))
        rig.open()
        rig.run(3.0)
        rig.engine.set_watched("s", False)
        rig.run(1.9)
        rig.engine.set_watched("s", True)  # a viewer who reloads the page costs nothing
        rig.run(1.1)
        assert len(rig.segments()) == 13
        rig.engine.set_watched("s", False)
        rig.run(pause_s)
        stopped = len(rig.segments())
        assert stopped == 13 + (0 if not pause_s else 4)
        assert rig.engine.step() is None or not pause_s  # nothing to wait for
        rig.engine.set_watched("s", True)
        rig.run_segments(20 - stopped)
        assert rig.segments()[-1].late_total == 0
        return frames(rig.segments())

    assert run(0.0) == run(3600.0)


@pytest.mark.parametrize("unwatched_before", [False, True])
def test_a_session_that_is_held_stops_without_grace_and_goes_on_where_it_was(unwatched_before: bool) -> None:
    rig = Rig(config=RuntimeConfig(idle_grace_s=2.0))
    rig.open()
    rig.run(3.0)
    if unwatched_before:
        rig.engine.set_watched("s", False)
    made = len(rig.segments())
    rig.engine.set_watched("s", False, throttled=True)
    rig.run(10.0)
    assert len(rig.segments()) == made
    rig.engine.set_watched("s", True)
    rig.run_segments(2)
    assert [s.segment for s in rig.segments()] == list(range(made + 2))


def test_a_session_that_nobody_ever_watches_makes_its_first_frames_and_stops() -> None:
    rig = Rig(config=RuntimeConfig(idle_grace_s=1.0))
    rig.engine.open(OpenSession("s", "a fox", 1))
    rig.run(100.0)
    assert 1 <= len(rig.segments()) <= 4


def test_under_overload_everybody_gets_the_same_share() -> None:
    rig = Rig(delay_s=0.1, spec=TINY_SPEC, config=RuntimeConfig(max_sessions=8, max_batch=1))
    names = [f"s{n}" for n in range(5)]
    for name in names:
        rig.open(name)
    rig.run(20.0)
    counts = [len(rig.segments(name)) for name in names]
    assert max(counts) - min(counts) <= 1
    assert sum(counts) > 90
