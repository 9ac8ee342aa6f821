"""Logs and snapshots that an earlier version wrote (commit e9f018b, fake backend) still make the same
video."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from engine.backends.fake import FakeBackend
from engine.runtime.log.reader import read_log
from engine.runtime.session.replay import replay
from engine.types import ByteArray, OpenSession
from tests.rigs.engine.fakes import TINY_SPEC, Rig

OLD = Path(__file__).parent / "old"
COLOURS = json.loads((OLD / "colours.json").read_text())  # of each segment then: its mean colour


def is_like_then(file: str, made: Iterable[ByteArray]) -> bool:
    now = [frames.mean((0, 1, 2)) for frames in made]
    return len(now) == len(COLOURS[file]) and np.allclose(now, COLOURS[file], atol=0.5)


@pytest.mark.parametrize("file", ["session.jsonl", "fork.jsonl"])
def test_an_old_log_replays_as_it_was(file: str) -> None:
    backend = FakeBackend(TINY_SPEC)
    log = read_log((OLD / file).read_bytes(), TINY_SPEC, backend.fingerprint)
    made = zip(replay(log, backend), COLOURS[file], strict=False)
    assert log.warnings == ()
    assert is_like_then(file, (segment.frames for segment, _ in made))


def test_an_old_snapshot_goes_on_as_it_did() -> None:
    rig, file = Rig(spec=TINY_SPEC), "session.safetensors"
    rig.engine.open(OpenSession("s", None, None, snapshot=(OLD / file).read_bytes()))
    rig.engine.set_watched("s", True)
    assert is_like_then(file, (segment.frames for segment in rig.run_segments(len(COLOURS[file]))))
    assert rig.infos()[-1].action == "jump"
