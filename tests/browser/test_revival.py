"""In a real Chromium: the worker is killed, and the same page continues to play."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from benchmarks.server.subject import own_server

pytest.importorskip("playwright", reason="pip install playwright")
from tests.rigs.server.browser_rig import FAKE, chromium, live, opened, say, shown, sky, until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def worker_of(pid: int) -> int:
    """The server's child process that owns the device."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"spawn_main" in (folder / "cmdline").read_bytes():
                return int(folder.name)
        except OSError:  # it has just ended
            continue
    raise AssertionError("the server has no worker")


async def test_a_killed_worker_costs_the_page_a_pause_and_nothing_else() -> None:
    with own_server(FAKE) as server:
        assert server.pid is not None
        async with chromium() as browser, opened(browser, server.target.base) as page:
            await live(page)
            await say(page, "a blue ball stands still")
            await shown(page, 20)

            before = await page.evaluate("() => psistream.framesShown")
            os.kill(worker_of(server.pid), signal.SIGKILL)
            await until(page, "psistream.framesShown", lambda n: n > before + 40, "more frames", 120)
            blue = await sky(page)
            assert blue[2] > 1.4 * blue[0], blue
            receipt = await say(page, "a green ball stands still")
            assert receipt["status"] == "applied"
            await shown(page, 20)
            green = await sky(page)
            assert green[1] > 1.2 * green[2], green
