"""A worker measures its encoders when it is asked, and tells what it may encode."""

from __future__ import annotations

from dataclasses import replace

from engine.types import OpenSession
from server.config import MediaConfig
from server.worker.messages.commands import MeasureCodec, SetViewers
from server.worker.messages.events import CodecMeasured, Packet
from server.worker.thread import InProcessWorker
from tests.rigs.server.server_rig import until
from tests.server.worker.working import FAKE, working


async def test_it_measures_a_codec_once_and_answers_every_time() -> None:
    async with working(InProcessWorker, FAKE) as (worker, heard):
        worker.send(MeasureCodec("vp9"))
        await until(lambda: [e for e in heard if isinstance(e, CodecMeasured)], "an answer")
        worker.send(MeasureCodec("vp9"))
        await until(lambda: len([e for e in heard if isinstance(e, CodecMeasured)]) > 1, "another answer")
        answers = [e for e in heard if isinstance(e, CodecMeasured)]
        assert answers[0] == answers[1]
        assert answers[0].share is not None
        assert answers[0].share > 0


async def test_it_encodes_only_what_its_operator_allows() -> None:
    """Even for a gateway that does not know."""
    media = MediaConfig(codecs=("h264",), hardware=False)
    async with working(InProcessWorker, replace(FAKE, media=media)) as (worker, heard):
        worker.send(OpenSession("s", "a red cat", 7))
        worker.send(SetViewers("s", {"vp8": 1, "h264": 1}))
        await until(lambda: len([e for e in heard if isinstance(e, Packet)]) > 8, "packets")
        assert {e.codec for e in heard if isinstance(e, Packet)} == {"h264"}
