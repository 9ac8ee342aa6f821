"""Workers as child processes: the placer that needs no Ray."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.cluster.placement.base import PlacedStage, PlacementFailed
from server.cluster.placement.local import LocalPlacer
from tests.rigs.waiting import until


@pytest.fixture
async def placer() -> AsyncIterator[LocalPlacer]:
    made = LocalPlacer(
        lambda name: ["--listen", "127.0.0.1:0", "--backend", "fake"], devices=("GPU-a", "GPU-b"), host="here"
    )
    yield made
    await made.close()
    assert (await made.survey()).workers == {}


async def test_each_worker_has_a_device_of_its_own(placer: LocalPlacer) -> None:
    await placer.place("w1", frozenset())
    await placer.place("w2", frozenset({"elsewhere"}))
    assert (await placer.survey()).hosts["here"].free == 0
    with pytest.raises(PlacementFailed, match="no GPU free: each of 2 has a worker"):
        await placer.place("w3", frozenset())

    def devices() -> set[str]:
        return {variable_of(pid, "CUDA_VISIBLE_DEVICES") for pid in placer.pids.values()}

    await until(lambda: devices() == {"GPU-a", "GPU-b"}, "device for each")
    await placer.kill("w1")
    await placer.place("w3", frozenset())
    assert set((await placer.survey()).workers) == {"w2", "w3"}


async def test_a_worker_that_has_ended_is_shown_until_it_is_cleared_away(placer: LocalPlacer) -> None:
    await placer.place("w1", frozenset())
    os.kill(placer.pids["w1"], signal.SIGKILL)
    await until(lambda: not placer.pids, "end of the worker")
    seen = (await placer.survey()).workers["w1"]
    assert (seen.stage, seen.why) == (PlacedStage.ENDED, "killed by SIGKILL")
    await placer.kill("w1")
    assert (await placer.survey()).workers == {}


async def test_a_drained_machine_gets_no_worker(placer: LocalPlacer) -> None:
    with pytest.raises(PlacementFailed, match="here is drained"):
        await placer.place("w1", frozenset({"here"}))
    with pytest.raises(PlacementFailed):
        await placer.leave("here")


async def test_killing_one_that_is_not_there_is_no_error(placer: LocalPlacer) -> None:
    await placer.kill("nobody")


def variable_of(pid: int, name: str) -> str:
    for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
        key, _, value = entry.partition(b"=")
        if key.decode() == name:
            return value.decode()
    return ""
