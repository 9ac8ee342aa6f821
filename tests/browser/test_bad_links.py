"""The page in Chromium over links that are away or carry no UDP: needs root, for namespaces of its own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

pytest.importorskip("playwright", reason="pip install playwright")

from benchmarks.network.__main__ import play, server
from benchmarks.network.emulator import SERVER_ADDRESS, Namespaces, NetworkCondition, linked
from benchmarks.network.scenarios import Scenario, steady
from tests.rigs.skips import need

pytestmark = [pytest.mark.browser, pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(300)]


@contextmanager
def turn_server(spaces: Namespaces) -> Iterator[str]:
    """coturn in the server's namespace, reached by TCP; its address as `--ice-server` takes it."""
    command = ["turnserver", "-n", "--no-cli", "--no-tls", "--no-dtls", "--lt-cred-mech", "--realm", "test"]
    command += ["--user", "user:pass", "--listening-ip", SERVER_ADDRESS, "--relay-ip", SERVER_ADDRESS]
    command += ["--pidfile", "/dev/null", "--log-file", "stdout", "--userdb", "/dev/null"]
    with subprocess.Popen(spaces.command(spaces.server, *command), stdout=subprocess.DEVNULL) as process:
        try:
            yield f"turn:user:pass@{SERVER_ADDRESS}:3478?transport=tcp"
        finally:
            process.terminate()


@pytest.mark.parametrize("relayed", [True, False], ids=["relay", "no relay"])
def test_the_page_plays_over_a_network_without_udp_by_a_relay_that_the_server_names(relayed: bool) -> None:
    need(shutil.which("turnserver") is not None, "coturn")
    scenario = steady("no-udp", "no UDP", NetworkCondition(delay_s=0.01, mtu=0), 20.0)
    with linked() as spaces, turn_server(spaces) as turn:
        options = ["--backend", "fake", *(["--ice-server", turn] if relayed else [])]
        with server(spaces, options) as base:
            shown = play(spaces, base, "page", scenario)["shown"]
    assert (len(shown) > 40) == relayed


@pytest.mark.parametrize("away_s", [3.0, 40.0])
def test_the_page_goes_on_after_an_outage(away_s: float) -> None:
    """After a short one on the same connection; after a long one, which browsers give up, on a new one."""
    up, start_s, rest_s = NetworkCondition(delay_s=0.02), 8.0, 12.0
    steps = ((0.0, up), (start_s, NetworkCondition(up=False)), (start_s + away_s, up))
    away = Scenario("away", "away", start_s + away_s + rest_s, steps, from_picture=True)
    with linked() as spaces, server(spaces, ["--backend", "fake"]) as base:
        shown = play(spaces, base, "page", away)["shown"]
    assert len([at_s for at_s in shown if at_s < start_s]) > 10
    assert not [at_s for at_s in shown if start_s + 2 < at_s < start_s + away_s]
    assert len([at_s for at_s in shown if at_s > start_s + away_s]) > 10
