"""What is told about Ray without running it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from engine.errors import Unavailable
from server import cli
from server.cluster.command import parser
from server.cluster.placement.base import PlacementFailed
from server.cluster.placement.on_ray import placer, start
from server.cluster.placement.on_ray.placer import RayPlacer
from server.cluster.placement.on_ray.settings import environment, warnings

# as Ray 2.60 says it of a head with 2.59
MISMATCH = """\
Version mismatch: The cluster was started with:
    Ray: 2.59.0
    Python: 3.11.7
This process on node 192.0.2.2 was started with:
    Ray: 2.60.0
    Python: 3.11.7
"""


def test_a_head_as_we_start_it_needs_no_warning() -> None:
    assert warnings(environment(redis="10.0.0.4:6379")) == []
    (only,) = warnings(environment())
    assert "no store" in only


def test_rays_defaults_are_warned_of() -> None:
    slow, short, store = warnings({})
    assert "RAY_health_check_period_ms" in slow
    assert "RAY_gcs_rpc_server_reconnect_timeout_s=300" in short
    assert "RAY_REDIS_ADDRESS" in store
    assert len(warnings({**environment(redis="a:1"), "RAY_health_check_period_ms": "3000"})) == 1


def test_errors_of_ray_are_told_in_a_line() -> None:
    assert placer.plain(f"RuntimeError: {MISMATCH}") == (
        "Ray's head runs Ray 2.59.0 with Python 3.11.7, and here are Ray 2.60.0 and Python 3.11.7: give all "
        "hosts of Ray and this one the same versions of both (pip install 'psistream[cluster]')"
    )
    assert placer.plain("Version mismatch,\nin other words") == "Version mismatch, in other words"
    assert "the same RAY_AUTH_TOKEN_PATH" in placer.plain("AuthenticationError: RPC error: InvalidAuthToken")


async def test_without_a_token_nothing_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(Unavailable, match="set RAY_AUTH_MODE=token"):
        RayPlacer("10.0.0.5:6379", lambda name: [])


async def test_a_head_that_is_not_there_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself takes 40 s. The next tries come less often."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    made = RayPlacer("127.0.0.1:1", lambda name: [])
    for _ in range(2):
        with pytest.raises(PlacementFailed, match=r"cannot be reached at 127.0.0.1:1: .*refused"):
            await made.survey()
    await made.close()


def test_without_ray_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["cluster", "ray", "--address", "10.0.0.5"]) == 1
    assert "pip install 'psistream[cluster]'" in capsys.readouterr().err


def test_ray_is_started_as_head_or_joins_one(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(start, "difference", lambda head, settings: "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a token")
    monkeypatch.setattr("os.execve", lambda program, words, told: begun.append((words[1:], told)))
    told = "cluster ray --address 10.0.0.5 --gpus 0 --redis 10.0.0.4:6379"
    start.start_ray(parser().parse_args(told.split()[1:]))
    told = "cluster ray --address 10.0.0.7 --head 10.0.0.5:6379 --labels gpu=h100"
    start.start_ray(parser().parse_args(told.split()[1:]))
    (head, head_variables), (host, host_variables) = begun
    assert {"--head", "--port=6379", "--node-ip-address=10.0.0.5", "--num-gpus=0"} <= set(head)
    assert {"--address=10.0.0.5:6379", "--labels=gpu=h100"} <= set(host)
    assert head_variables["RAY_REDIS_ADDRESS"] == "10.0.0.4:6379"
    assert "RAY_REDIS_ADDRESS" not in host_variables
    assert host_variables["RAY_AUTH_MODE"] == "token"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--address host-a", "--address must be an IP address of this host, not 'host-a'"),
        ("--address ::1 --head b:1 --redis c:1", "--redis has no effect with --head: give it to the head"),
        ("--address ::1 --head here", "--head must look like"),
        ("--address ::1 --redis here", "--redis must look like"),
        ("--address ::1 --port 0", "--port must be 1 to 65535"),
        ("--address ::1 --gpus -1", "--gpus must be 0 or a positive number"),
        ("--address ::1 --labels h100", "--labels must look like gpu=h100,rack=7"),
        ("--address ::1", "RAY_AUTH_TOKEN_PATH: there is no file /none/ray.token"),
    ],
)
def test_mistakes_are_told_before_ray_begins(
    words: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's answer was a traceback, or silence for a minute."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/none/ray.token")
    monkeypatch.setattr("os.execve", lambda program, words, told: pytest.fail("Ray was started"))
    assert cli.main(["cluster", "ray", *words.split()]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1


def test_a_host_with_another_version_than_the_head_says_so_in_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray itself says it below forty lines of a traceback."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a token")
    monkeypatch.setattr("os.execve", lambda *told: pytest.fail("Ray was started"))
    monkeypatch.setattr(start, "difference", lambda head, settings: MISMATCH)
    assert cli.main(["cluster", "ray", "--address", "10.0.0.7", "--head", "10.0.0.5:6379"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "Ray's head runs Ray 2.59.0 with Python 3.11.7, and here are Ray 2.60.0" in line


def test_a_head_that_does_not_answer_is_left_to_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "PROBE_S", 1.0)
    assert start.difference("127.0.0.1:1", dict(os.environ)) == ""


@pytest.mark.parametrize("module", ["server.serve", "server.cluster.command", "server.cluster.worker"])
def test_commands_do_not_import_ray(module: str) -> None:
    """Also not by way of others, as an import rule checks."""
    program = f"import sys, {module}; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
