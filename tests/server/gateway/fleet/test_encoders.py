"""What viewers may be sent, if workers on several machines encode different things."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from engine.errors import InvalidInput
from server.gateway.gateway import Gateway
from server.metrics import Metrics
from server.worker.base import OnEvent
from server.worker.messages.commands import MeasureCodec
from server.worker.messages.events import CodecMeasured, WorkerReady
from tests.rigs.server.server_rig import READY, FakeWorker, config, gateway, until


class Encoder(FakeWorker):
    """A worker that may encode these codecs."""

    def __init__(self, on_event: OnEvent, log: list[FakeWorker], codecs: tuple[str, ...]) -> None:
        super().__init__(on_event, log)
        self._codecs = codecs

    async def start(self) -> WorkerReady:
        return replace(await super().start(), codecs=self._codecs)


def encoding(*sets: tuple[str, ...], **changes: Any) -> tuple[Gateway, list[FakeWorker]]:
    workers: list[FakeWorker] = []
    makers = [lambda on_event, codecs=codecs: Encoder(on_event, workers, codecs) for codecs in sets]
    settings = config(workers=len(sets), **changes)
    return Gateway(settings, makers, Metrics()), workers


async def test_viewers_are_sent_what_all_workers_encode() -> None:
    gate, workers = encoding(("vp8", "h264", "av1"), ("h264", "vp8"), ())
    async with gate:
        assert gate.encoders.common() == ("vp8", "h264")
        assert await gate.encoders.encode("h264")
        assert not await gate.encoders.encode("av1")
        assert not [c for worker in workers for c in worker.commands if isinstance(c, MeasureCodec)]


async def test_workers_without_a_common_codec_are_refused() -> None:
    gate, _ = encoding(("vp8",), ("h264", "av1"))
    with pytest.raises(InvalidInput, match=r"w2 encodes h264, av1.*--codecs"):
        async with gate:
            pass


async def test_each_worker_measures_a_codec_once_and_all_must_be_fast() -> None:
    gate, workers = encoding(("vp8", "vp9", "av1"), ("vp8", "vp9", "av1"))
    async with gate:
        asked = [asyncio.create_task(gate.encoders.encode("av1")) for _ in range(3)]
        await until(lambda: all(MeasureCodec("av1") in worker.commands for worker in workers), "the orders")
        for worker in workers:
            worker.tell(CodecMeasured("av1", 0.2))
        assert await asyncio.gather(*asked) == [True] * 3
        before = [len(worker.commands) for worker in workers]
        assert await gate.encoders.encode("av1")
        assert [len(worker.commands) for worker in workers] == before
        other = asyncio.create_task(gate.encoders.encode("vp9"))
        await until(lambda: all(MeasureCodec("vp9") in worker.commands for worker in workers), "the orders")
        workers[0].tell(CodecMeasured("vp9", 0.2))
        workers[1].tell(CodecMeasured("vp9", 0.9))
        assert not await other


async def test_an_encoder_that_fails_is_left_out_and_a_new_process_is_asked_again() -> None:
    gate, workers = encoding(("vp8", "av1"))
    async with gate:
        asked = asyncio.create_task(gate.encoders.encode("av1"))
        await until(lambda: MeasureCodec("av1") in workers[0].commands, "the order")
        workers[0].tell(CodecMeasured("av1", None, "no such encoder"))
        assert not await asked
        workers[0].die()
        await until(lambda: len(workers) == 2 and gate.ready, "the successor")
        asked = asyncio.create_task(gate.encoders.encode("av1"))
        await until(lambda: MeasureCodec("av1") in workers[1].commands, "the order")
        workers[1].tell(CodecMeasured("av1", 0.1))
        assert await asked


async def test_an_older_worker_is_trusted_with_what_any_machine_encodes() -> None:
    async with gateway() as (gate, workers, _):
        assert READY.codecs == ()
        assert await gate.encoders.encode("vp8")
        assert not await gate.encoders.encode("av1")
        assert not [c for c in workers[0].commands if isinstance(c, MeasureCodec)]
