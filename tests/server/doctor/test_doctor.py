"""The doctor: a healthy machine passes, and each problem is reported with its fix."""

from __future__ import annotations

import json
import socket

import pytest

from server.config import IceServer, ServerConfig, WorkerConfig
from server.doctor import machine, network
from server.doctor.command import main
from server.doctor.findings import Finding, bad, good, lines, note

FAKE = ["--backend", "fake", "--mqtt", "off"]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def test_a_healthy_machine_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FAKE, "--port", str(free_port()), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["good"] is True
    about = [check["about"] for check in said["checks"]]
    assert {"python", "libraries", "clock", "gpu", "model", "encoder", "http", "udp", "mqtt"} <= set(about)


def test_a_port_that_is_taken_and_a_broker_that_is_down_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert (
            main(["--backend", "fake", "--port", str(port), "--mqtt", f"mqtt://127.0.0.1:{free_port()}"]) == 1
        )
    said = capsys.readouterr().out
    assert "choose another --port" in said
    assert "start the broker" in said


def test_options_that_serve_would_refuse_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FAKE, "--udp-ports", "nonsense"]) == 2
    assert "--udp-ports must look like" in capsys.readouterr().out


def test_a_missing_model_is_named() -> None:
    found = machine.model(ServerConfig(worker=WorkerConfig(backend="fake", model="/nowhere")))
    assert (found.state, found.about) == ("bad", "model")
    assert "/nowhere" in found.text


async def test_a_stun_server_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "ANSWER_S", 0.1)
    config = ServerConfig(ice_servers=(IceServer(f"stun:127.0.0.1:{free_port()}"), IceServer("stun:")))
    found = [finding async for finding in network.ice_servers(config)]
    assert [f.state for f in found] == ["bad", "bad"]
    assert "did not answer" in found[0].text


async def test_every_offered_address_is_tested() -> None:
    found = [finding async for finding in network.udp(ServerConfig(host="127.0.0.1"))]
    assert [(f.about, f.state) for f in found] == [("udp", "good"), ("reach", "note")]
    assert "127.0.0.1" in found[0].text


async def test_a_range_of_ports_that_is_taken_is_named() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        found = [f async for f in network.udp(ServerConfig(host="127.0.0.1", udp_ports=(port, port)))]
    assert found[0].state == "bad"
    assert "--udp-ports" in found[0].mend


async def test_a_public_address_needs_ports_that_can_be_forwarded() -> None:
    config = ServerConfig(host="127.0.0.1", public_addresses=("203.0.113.7",))
    found = [f async for f in network.udp(config) if f.about == "public"]
    assert (found[0].state, "--udp-ports" in found[0].mend) == ("bad", True)


def test_failures_show_their_fix() -> None:
    findings: list[Finding] = [good("a", "well"), note("bb", "so so"), bad("c", "broken", "mend it")]
    assert lines(findings, colour=False) == ["✓ a   well", "· bb  so so", "✗ c   broken", "      → mend it"]
    assert "\033[31m" in lines(findings, colour=True)[2]
