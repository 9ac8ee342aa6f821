"""The doctor: a healthy machine passes, and each problem is reported with its fix."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import json
import socket
from pathlib import Path

import pytest

from benchmarks.network.ports import free_port
from server.config import IceServer, MediaConfig, ServerConfig, WorkerConfig
from server.doctor import command, machine, network
from server.doctor.command import main
from server.doctor.findings import Finding, bad, good, lines, note
from server.worker.hardware import chosen

FAKE = ["--backend", "fake", "--mqtt", "off"]


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


# ---- provoked one by one ----


def test_a_port_for_health_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        http, ops = network.ports(ServerConfig(port=free_port(), ops_port=taken.getsockname()[1]))
    assert (http.state, ops.state) == ("good", "bad")
    assert "--ops-port" in ops.mend


def test_a_library_that_is_missing_or_of_another_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "av":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.17.0" if name == "aiortc" else "0.13.1"

    monkeypatch.setattr(importlib.metadata, "version", version)
    red = [f for f in machine.libraries() if f.state == "bad"]
    assert [f.text for f in red] == ["aiortc is 1.17.0, not 1.16", "av is not installed"]
    assert [f.mend.split()[0] for f in red] == ["pip", "pip"]


@pytest.mark.parametrize(
    ("script", "said"), [("echo no devices; exit 9", "no devices"), ("exit 9", "failed")]
)
def test_a_driver_that_fails_is_named(
    script: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = machine.gpu()
    assert (found.state, said in found.text, "driver" in found.mend) == ("bad", True, True)


def test_an_encoder_that_is_too_slow_or_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def share(codec: str, picture: object, *, hardware: bool) -> float:
        if codec == "av1":
            raise ValueError("no such encoder")
        return 0.9

    monkeypatch.setattr(machine, "share", share)
    found = {f.text.split()[0]: f for f in machine.encoders(MediaConfig(hardware=False))}
    states = {name: f.state for name, f in found.items()}
    assert states == {"VP8": "bad", "H264": "bad", "VP9": "note", "AV1:": "bad"}
    assert "--codecs" in found["AV1:"].mend
    assert "fewer sessions" in found["VP8"].mend


def test_the_encoder_of_h264_is_named() -> None:
    found = [f.text for f in machine.encoders(MediaConfig(codecs=("h264",)))]
    choice = chosen()
    assert f"H264 by {choice.name}" in found[0]
    assert (len(found) == 2) == (choice.encoder is None), "and why there is none in hardware"


def test_every_red_line_of_the_code_has_a_mend() -> None:
    """`bad` takes one; none may be empty."""
    for module in (machine, network, command):
        for call in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "bad":
                mend = call.args[2]
                assert not (isinstance(mend, ast.Constant) and not mend.value), ast.unparse(call)
