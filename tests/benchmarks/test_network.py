"""The emulated link, and a short run over it: needs root, network namespaces and /dev/net/tun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.network.__main__ import busy, figures, play, server
from benchmarks.network.emulator import SERVER_ADDRESS, NetworkCondition, linked
from benchmarks.network.scenarios import SCENARIOS, Scenario, steady
from tests.rigs.waiting import LONG_S

pytestmark = pytest.mark.root

ECHO = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], 9000))
print("ready", flush=True)
while True:
    data, who = s.recvfrom(2048)
    s.sendto(data, who)
"""
ASK = """
import json, socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
back = []
for size, within_s in zip(sys.argv[2::2], sys.argv[3::2]):
    s.settimeout(float(within_s))
    sent = time.monotonic()
    s.sendto(bytes(int(size)), (sys.argv[1], 9000))
    try:
        s.recv(2048)
        back.append(time.monotonic() - sent)
    except TimeoutError:
        back.append(None)
print(json.dumps(back))
"""


def test_the_emulated_link_has_the_delay_the_size_and_the_outage_that_are_set() -> None:
    with linked() as spaces:
        echo = subprocess.Popen(
            spaces.command(spaces.server, sys.executable, "-c", ECHO, SERVER_ADDRESS), stdout=subprocess.PIPE
        )
        assert echo.stdout is not None
        echo.stdout.readline()

        def ask(*asked: float) -> list[float | None]:
            """Of each size, and the seconds to wait for it: how long it took."""
            command = spaces.command(
                spaces.viewer, sys.executable, "-c", ASK, SERVER_ADDRESS, *map(str, asked)
            )
            done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
            return list(json.loads(done.stdout))

        try:
            spaces.link.condition = NetworkCondition(delay_s=0.05, mtu=1280)
            small, large = ask(1000, LONG_S, 1400, 1.0)
            assert small is not None
            assert small >= 0.1
            assert large is None
            spaces.link.condition = NetworkCondition(up=False)
            assert ask(100, 1.0) == [None]
        finally:
            echo.kill()
            echo.wait()
            echo.stdout.close()


def test_namespaces_end_with_the_context() -> None:
    with linked() as spaces:
        names = {spaces.server, spaces.viewer}
        assert names <= set(os.listdir("/run/netns"))
    assert not names & set(os.listdir("/run/netns"))


@pytest.mark.slow
def test_a_session_plays_over_a_narrow_link_and_after_an_outage() -> None:
    """A short version of the table: frames keep coming, on a rung below the top one."""
    narrow = steady("narrow", "cap of 300 kb/s", NetworkCondition(cap_bps=300e3, delay_s=0.02), 15.0)
    steps = ((0.0, NetworkCondition()), (6.0, NetworkCondition(up=False)), (10.0, NetworkCondition()))
    away = Scenario("away", "outage of 4 s", 18.0, steps)
    with (
        busy() as model,
        linked() as spaces,
        server(spaces, ["--backend", "fake", "--model", model]) as base,
    ):
        seen = play(spaces, base, "viewer", narrow)
        assert seen["rungs"][-1][1]["rung"] > 0
        assert len(seen["shown"]) > 30
        after = [t for t in play(spaces, base, "viewer", away)["shown"] if t > 10.0]
        assert len(after) > 10


def test_freezes_are_counted_from_the_settled_second_on() -> None:
    scenario = steady("x", "x", NetworkCondition(), 10.0)
    shown = [i / 16 for i in range(16 * 10) if not 6.0 < i / 16 < 7.0]
    result = figures(scenario, {"shown": shown, "rungs": [], "stats": {}, "late_ms": 0.0})
    assert (result["fps"], result["frozen_s"], result["longest_s"]) == (13.0, 1.0, 1.0)


def test_every_row_of_the_table_is_a_scenario() -> None:
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    for scenario in SCENARIOS.values():
        assert scenario.about in text, scenario.about
