"""A worker that somebody keeps: why it ended is known, and it never outlives its keeper's process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from server.cluster.placement.keeper import WORKER, Keeper, environment_of_child
from tests.rigs.waiting import LONG_S, until

LISTEN = ["--listen", "127.0.0.1:0", "--backend", "fake"]


@pytest.fixture
def keeper() -> Keeper:
    return Keeper(LISTEN, environment_of_child(os.environ))


def lives(pid: int) -> bool:
    """A zombie doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_it_runs_until_it_is_stopped(keeper: Keeper) -> None:
    assert keeper.pid is not None
    assert not keeper.wait(0.1)
    assert keeper.why == ""
    keeper.stop(LONG_S)
    assert keeper.ended
    assert keeper.why == "it was stopped"
    assert not lives(keeper.pid)


async def test_a_frozen_one_is_stopped_too(keeper: Keeper) -> None:
    assert keeper.pid is not None
    os.kill(keeper.pid, signal.SIGSTOP)
    keeper.stop(0.5)
    assert keeper.wait(LONG_S)


async def test_it_says_who_killed_it(keeper: Keeper) -> None:
    assert keeper.pid is not None
    os.kill(keeper.pid, signal.SIGKILL)
    assert keeper.wait(LONG_S)
    assert keeper.why == "killed by SIGKILL"


async def test_it_says_why_it_cannot_start(tmp_path: Path) -> None:
    keeper = Keeper([*LISTEN[:2], "--model", str(tmp_path / "nothing")], environment_of_child(os.environ))
    assert keeper.wait(LONG_S)
    assert str(tmp_path / "nothing") in keeper.why
    assert "psistream worker" not in keeper.why


async def test_it_ends_with_its_keepers_process_even_if_it_is_frozen() -> None:
    """Otherwise its GPU would be given to another worker while it is still in use."""
    program = (
        "import os, time; from server.cluster.placement.keeper import Keeper; "
        f"print(Keeper({LISTEN!r}, os.environ).pid, flush=True); time.sleep(600)"
    )
    keeping = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=subprocess.PIPE)
    assert keeping.stdout is not None
    pid = int(await keeping.stdout.readline())
    command = Path(f"/proc/{pid}/cmdline")
    await until(lambda: command.read_text().split("\0")[1:4] == WORKER[1:], "worker that runs")
    os.kill(pid, signal.SIGSTOP)
    keeping.kill()
    await keeping.wait()
    await until(lambda: not lives(pid), "end of the worker")


def test_rays_token_does_not_reach_the_worker() -> None:
    given = {"RAY_AUTH_TOKEN": "secret", "RAY_JOB_ID": "1", "CUDA_VISIBLE_DEVICES": "3", "HOME": "/home/x"}
    assert environment_of_child(given) == {"CUDA_VISIBLE_DEVICES": "3", "HOME": "/home/x"}
