"""A cluster of real processes on loopback: each part is killed once, and no session is lost."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.rigs.server.processes_rig import cluster
from tests.rigs.waiting import until


@pytest.mark.slow
async def test_no_session_is_lost_whatever_is_killed(tmp_path: Path) -> None:
    async with cluster(tmp_path) as there:
        await there.up()
        await there.worker("w1")
        await there.worker("w2")
        await there.gateway("g1")
        await there.gateway("g2")
        first, second = await there.open("g1"), await there.open("g2")
        everything = {"main", first, second}
        assert await there.sessions("g1") | await there.sessions("g2") == everything

        await there.end("directory")
        second_more = await there.open("g2")  # nothing waits for it
        everything.add(second_more)
        await there.up()

        await there.end("g1")
        await there.until_sessions("g2", everything)

        await there.end("w1")
        await there.until_sessions("g2", everything)
        await there.until_placed("g2", {"w2": len(everything)})

        await there.worker("w3")
        drained = await there.command("drain", "h-w2")
        assert drained == "h-w2 is drained\n"
        assert "draining" in await there.command("status")

        await there.gateway("g1")
        await there.end("g2", signal.SIGTERM)
        await there.until_sessions("g1", everything)
        shown = [line.split() for line in (await there.command("status")).splitlines()]
        assert ["g1", "ready", str(len(everything)), "main", there.urls["g1"]] in shown


@pytest.mark.slow
async def test_all_parts_may_start_in_any_order(tmp_path: Path) -> None:
    async with cluster(tmp_path) as there:
        starting = asyncio.create_task(there.gateway("g1"))
        await there.worker("w1")
        await until(lambda: b"trying again" in (tmp_path / "w1.log").read_bytes(), "a try", 60.0)
        await there.up()
        await starting
        assert await there.sessions("g1") == {"main"}
        await there.worker("twin", "--name", "w1")
        assert await there.processes.pop("twin").wait() == 1
        assert "the name w1 is taken by another member" in (tmp_path / "twin.log").read_text()
