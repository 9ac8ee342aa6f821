"""`serve --video`: sessions that bring nothing of their own continue a clip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.errors import InvalidInput
from engine.types import OpenSession, SessionInfo
from engine.video import Mp4Writer
from server.worker.messages.commands import ExportSession
from server.worker.messages.events import Exported
from server.worker.thread import InProcessWorker
from tests.rigs.server.server_rig import until
from tests.server.worker.working import FAKE, working


def clip(path: Path, frames: int) -> Path:
    with Mp4Writer(path, width=160, height=96, fps=16) as writer:
        for _ in range(frames):
            writer.add(np.full((96, 160, 3), 90, np.uint8))
    return path


async def test_a_session_continues_the_clip_under_its_own_prompt(tmp_path: Path) -> None:
    config = replace(FAKE, video=clip(tmp_path / "a.mp4", 20))
    async with working(InProcessWorker, config) as (worker, heard):
        worker.send(OpenSession("s", "a red cat", 7))
        await until(lambda: any(isinstance(e, SessionInfo) for e in heard), "the session")
        info = next(e for e in heard if isinstance(e, SessionInfo))
        assert (info.prompt, info.seed) == ("a red cat", 7)
        worker.send(ExportSession("s", "r", "log"))
        await until(lambda: any(isinstance(e, Exported) for e in heard), "its log")
        exported = next(e for e in heard if isinstance(e, Exported))
        assert exported.data is not None
        assert b'"snapshot"' in exported.data  # it starts where the clip ended, and can be made again


async def test_a_clip_that_is_too_short_stops_the_worker_by_name(tmp_path: Path) -> None:
    config = replace(FAKE, video=clip(tmp_path / "a.mp4", 5))
    with pytest.raises(InvalidInput, match=r"a\.mp4 has 5 frames at 16 fps, at least 8 are needed"):
        async with working(InProcessWorker, config):
            pass
