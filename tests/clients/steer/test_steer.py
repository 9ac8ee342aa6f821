"""clients.steer over each transport against a real server, and its promises about lost connections."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.network.ports import free_port
from benchmarks.server.subject import Subject, own_server
from clients.steer import ControlReceipt, Refused, State, SteerError, connect
from clients.steer.mqtt import Broker, MqttTransport
from clients.steer.session import By
from clients.whep import WhepViewer
from server.control.mqtt.bridge import MqttBridge
from server.control.mqtt.embedded.builtin import EmbeddedBroker
from tests.rigs.control.gateway import FakeSteering
from tests.rigs.control.network import Relay
from tests.rigs.paths import ROOT
from tests.rigs.server.fake_device import FAKE_OPTIONS
from tests.rigs.waiting import LONG_S, until

GAME = ROOT / "docs" / "game.md"
WAYS: tuple[By, ...] = ("http", "mqtt", "datachannel")


@pytest.fixture(scope="module")
def server() -> Iterator[Subject]:
    options = ["--mqtt", "embedded:0", "--mqtt-websockets", "off", "--node", "here"]
    with own_server([*FAKE_OPTIONS, "--prompt", "a red ball", *options]) as subject:
        yield subject


@pytest.mark.parametrize("by", WAYS)
async def test_each_way_steers_and_tells_both_receipts(server: Subject, by: By) -> None:
    async with WhepViewer(server.target), connect(server.target.base, by=by) as session:
        sent = session.prompt("a green hill", how="cut", when="now")
        assert (await sent.received()).id == sent.id
        applied = await sent.applied()
        assert applied.segment is not None
        assert applied.frame is not None
        await until(lambda: session.state.prompt == "a green hill", "the new state")
        for other in (session.action("left"), session.pause(), session.resume(), session.action(None)):
            await other.applied()
        mixed = session.prompt([("a fox", 0.7), ("a cube", 0.3)], how="soft", transition_segments=2)
        assert (await mixed.applied()).status == "applied"
        assert session.online


@pytest.mark.parametrize("by", WAYS)
async def test_each_way_tells_why_a_control_is_refused(server: Subject, by: By) -> None:
    async with connect(server.target.base, by=by) as session:
        with pytest.raises(Refused, match="seconds must be a number above 0") as caught:
            await session.rewind(-1).applied()
        assert (caught.value.code, caught.value.receipt.field) == ("invalid", "seconds")


@pytest.mark.parametrize("by", WAYS)
async def test_each_transport_reports_a_missing_session_or_server(server: Subject, by: By) -> None:
    with pytest.raises(SteerError, match="no session"):
        async with connect(server.target.base, "nobody", by=by):
            pass
    with pytest.raises(SteerError, match=r"127\.0\.0\.1"):
        async with connect(f"http://127.0.0.1:{free_port()}", by=by):
            pass


@pytest.mark.parametrize(
    ("url", "by"), [("ftp://x", "auto"), ("mqtt://x", "http"), ("http://x", "pigeon"), ("mqtt://", "auto")]
)
def test_an_invalid_server_address_is_reported(url: str, by: Any) -> None:
    with pytest.raises(SteerError):
        connect(url, by=by)


async def test_controls_sent_during_an_outage_are_sent_and_answered_once() -> None:
    steering = FakeSteering()
    async with (
        EmbeddedBroker(0) as broker,
        Relay(broker.port) as relay,
        MqttBridge(steering, broker.url, node="here") as bridge,
    ):
        assert await bridge.wait_connected(30)
        async with connect(relay.url) as session:
            await session.prompt("before").applied()
            relay.cut()
            await until(lambda: not session.online, "noticed")
            sent = session.prompt("meanwhile")
            relay.heal()
            assert (await sent.applied()).status == "applied"
            assert [control.id for _, control in steering.controls].count(sent.id) == 1


def test_malformed_messages_are_ignored() -> None:
    assert ControlReceipt.read({"id": 5, "status": "applied"}) is None
    assert ControlReceipt.read({"id": "a", "status": "maybe"}) is None
    assert ControlReceipt.read(
        {"id": "a", "status": "applied", "segment": True, "code": 7}
    ) == ControlReceipt("a", "applied")
    assert State.read({"prompt": 5, "paused": "yes", "viewers": "many"}) == State()
    assert State.read({"buffering": {"speed": 0.1}}).stalled


async def test_a_server_that_tells_no_topic_is_reached_at_the_usual_one() -> None:
    assert MqttTransport(Broker("h", 1), topic=None).shown == "mqtt://h:1"


def example(kind: str = "python game") -> str:
    (text,) = re.findall(rf"^```{kind}\n(.*?)\n```$", GAME.read_text(encoding="utf-8"), re.M | re.S)
    return str(text)


@pytest.mark.parametrize("by", ["http", "mqtt"])
async def test_the_example_game_can_be_won(server: Subject, by: str, tmp_path: Path) -> None:
    (tmp_path / "game.py").write_text(example(), encoding="utf-8")
    url = server.target.base
    if by == "mqtt":
        import httpx

        async with httpx.AsyncClient(timeout=LONG_S) as http:
            url = json.loads((await http.get(f"{url}v1/sessions/main")).text)["mqtt"]["url"]
    async with WhepViewer(server.target):  # an unwatched session sleeps
        await play_to_the_end(tmp_path / "game.py", url)


async def play_to_the_end(path: Path, url: str) -> None:
    game = await asyncio.create_subprocess_exec(
        sys.executable,
        str(path),
        url,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    words = ["fly", "east", "take", "west", "undo", "north", "east"]
    out, _ = await game.communicate("".join(f"{word}\n" for word in words).encode())
    assert game.returncode == 0
    told = out.decode()
    assert "You are in the beach (from frame " in told
    assert "Type a direction" in told
    assert told.endswith("The cave glows. You have won.\n")
    assert 50 <= len(example().splitlines()) <= 70


async def test_the_example_game_reports_a_missing_server_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "game.py").write_text(example(), encoding="utf-8")
    game = await asyncio.create_subprocess_exec(
        sys.executable,
        str(tmp_path / "game.py"),
        f"http://127.0.0.1:{free_port()}",
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await game.communicate()
    assert game.returncode == 1
    assert err.decode().startswith("game: cannot reach http://127.0.0.1:")
    assert err.count(b"\n") == 1
