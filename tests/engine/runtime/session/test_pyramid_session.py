"""Sessions of a model with Helios' shape: steered, forked, replayed and batched like any other's."""

from __future__ import annotations

import random

import numpy as np
import pytest

from engine.backends.fake_pyramid import PYRAMID_SPEC, FakePyramid
from engine.config import RuntimeConfig
from engine.runtime.log.reader import read_log
from engine.runtime.session.replay import replay
from engine.types import (
    ControlBody,
    Image,
    OpenSession,
    Pause,
    Prompt,
    Reset,
    Resume,
    Rewind,
    Weighted,
)
from tests.rigs.engine.fakes import ManualClock, Rig

SEGMENT_S = PYRAMID_SPEC.segment_s
AHEAD = RuntimeConfig(max_sessions=4, lead_min_s=2.2 * SEGMENT_S, lead_max_s=4 * SEGMENT_S)
PICTURE = np.arange(3 * 96 * 160, dtype=np.uint32).reshape(3, 96, 160).astype(np.uint8)
COSTS = {f"denoise_{k}": (cost, 0.2 * cost) for k, cost in enumerate((0.01, 0.02, 0.06))}
BODIES: list[ControlBody] = [
    Prompt("a blue fox"),
    Prompt("night", "soft", "now", 3),
    Prompt("night", "cut"),
    Prompt("green", "cut", "now"),
    Prompt((Weighted("red", 0.3), Weighted("yellow", 2.0)), "soft", "next", 2),
    Reset(),
    Rewind(3.0),
    Image(PICTURE),
    Image(PICTURE, "now"),
]


def make_rig() -> Rig:
    clock = ManualClock()
    rig = Rig(FakePyramid(costs=COSTS, sleep=clock.advance), config=AHEAD)
    rig.clock.now_s = clock.now_s
    rig.backend.sleep_by(rig.clock.advance)
    return rig


def test_a_segment_is_1375_milliseconds() -> None:
    assert pytest.approx(SEGMENT_S) == 33 / 24


@pytest.mark.parametrize("seed", range(2))
def test_whatever_is_done_a_replay_is_the_live_video(seed: int) -> None:
    chance = random.Random(seed)
    rig = make_rig()
    rig.open(prompt="a red city", seed=3)
    for _ in range(10):
        rig.run(chance.uniform(0.3, 2.5))
        rig.submit(chance.choice(BODIES))
    rig.submit(Pause())
    rig.submit(Resume())
    rig.run_segments(2)
    assert {r.status for r in rig.receipts()} == {"applied"}
    log = read_log(rig.engine.take("s", "log").data, rig.backend.spec, rig.backend.fingerprint)
    live = {s.segment: s for s in rig.segments()}
    told = log.segments - log.start.segment
    assert told > 5
    for made, _ in zip(replay(log, FakePyramid()), range(told), strict=False):
        assert made.frames.tobytes() == live[made.segment].frames.tobytes(), made.segment


def test_two_sessions_from_one_snapshot_go_on_alike_and_a_fork_goes_on() -> None:
    rig = make_rig()
    rig.open(prompt="a red city", seed=3)
    rig.run_segments(3)
    snapshot = rig.engine.take("s", "snapshot").data
    for name in ("one", "two"):
        rig.engine.open(OpenSession(name, None, None, snapshot=snapshot))
    rig.engine.open(OpenSession("fork", None, None, fork_of="s", rewind_s=1.0))
    for name in ("one", "two", "fork"):
        rig.engine.set_watched(name, True)
        rig.run_segments(2, name)
    one, two, fork = (rig.segments(name)[:2] for name in ("one", "two", "fork"))
    assert [s.frames.tobytes() for s in one] == [s.frames.tobytes() for s in two]
    assert len(fork[0].frames) == 33


def test_several_sessions_batch_within_stages_and_stay_in_real_time() -> None:
    rig = make_rig()
    for k in range(3):
        rig.open(f"s{k}", prompt=("red", "green", "blue")[k], seed=k)
    rig.run(20 * SEGMENT_S)
    assert max(rig.backend.batches) == 3
    for k in range(3):
        assert len(rig.segments(f"s{k}")) >= 18


def test_company_changes_no_picture() -> None:
    alone, together = make_rig(), make_rig()
    alone.open("s1", prompt="green", seed=1)
    for k in range(3):
        together.open(f"s{k}", prompt=("red", "green", "blue")[k], seed=k)
    shown = [[s.frames.tobytes() for s in rig.run_segments(4, "s1")] for rig in (alone, together)]
    assert shown[0] == shown[1]
