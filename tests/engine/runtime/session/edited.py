"""The log of a short session, to be edited by hand."""

from __future__ import annotations

import json
from typing import Any

from engine.backends.fake import FAKE_SPEC, FakeBackend
from engine.config import RuntimeConfig
from engine.runtime.log.reader import read_log
from engine.types import (
    Action,
    Prompt,
    Rewind,
)
from tests.rigs.engine.fakes import Rig

SEGMENT_S = FAKE_SPEC.segment_s

AHEAD = RuntimeConfig(max_sessions=4, lead_min_s=2.2 * SEGMENT_S, lead_max_s=4 * SEGMENT_S)


def lines() -> list[dict[str, Any]]:
    rig = Rig(config=AHEAD)
    rig.open(prompt="a red city", seed=3)
    rig.run(2.2 * SEGMENT_S)
    for body in (Prompt("blue"), Action("left"), Prompt("green", when="now"), Rewind(1.0)):
        rig.submit(body)
        rig.run(1.1 * SEGMENT_S)
    return [json.loads(line) for line in rig.engine.take("s", "log").data.splitlines()]


def read(rows: list[dict[str, Any]]) -> Any:
    data = b"\n\n".join(row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows)
    return read_log(data, FAKE_SPEC, FakeBackend.fingerprint)
