"""The terminal client: its keys and its screen separately, and the whole client in a pseudo-terminal."""

from __future__ import annotations

import asyncio
import json
import signal

import pytest

from benchmarks.network.ports import free_port
from clients.play.command import main
from clients.steer import SteerError
from clients.steer.transport import end
from engine.types import Action, Pause, Prompt, Reset, Resume, Rewind, Weighted
from server.control.mqtt.bridge import MqttBridge
from server.control.mqtt.embedded.builtin import EmbeddedBroker
from tests.clients.terminal import Terminal, playing
from tests.rigs.control.gateway import FakeSteering, segment_stats
from tests.rigs.waiting import until

LEFT, RIGHT, UP = b"\x1b[D", b"\x1b[C", b"\x1bOA"


async def test_keys_and_prompts_steer_the_session() -> None:
    async with playing() as (steering, _, terminal):
        await terminal.shows("a red robot walks")
        terminal.type(RIGHT * 3)  # a key that repeats; later than HOLD_S it would be let go in between
        await until(lambda: len(steering.controls) == 2, "let go after the last repeat")
        terminal.type("/a bl\x7f\x7fgreen [fox] é\t")
        await terminal.shows("fade / a green [fox] é")
        terminal.type("\t")
        await terminal.shows("new scene / a green [fox] é")
        terminal.type("\r")
        await until(lambda: len(steering.controls) == 3, "the prompt")
        terminal.type("pr")
        await until(lambda: len(steering.controls) == 5, "pause and reset")
        await terminal.shows("paused")
        terminal.type("p")
        await until(lambda: len(steering.controls) == 6, "resume")
        assert [control.body for _, control in steering.controls] == [
            Action("right"),
            Action(None),
            Prompt("a green [fox] é", "cut"),
            Pause(),
            Reset(None),
            Resume(),
        ]
        assert {session for session, _ in steering.controls} == {"main"}
        terminal.output.clear()
        steering.emit(segment_stats(segment=77))
        await terminal.shows("616")  # its first frame
        await terminal.shows("200 ms")  # and what it took
        terminal.type("q")
        assert await terminal.ends() == 0
        assert terminal.restored
        assert not terminal.errors


async def test_prompts_are_mixed_and_sent_at_once_and_time_goes_back() -> None:
    async with playing("--how", "soft") as (steering, _, terminal):
        terminal.type("/a fox 70% | a cube 40% | a bird")
        await terminal.shows("fade / a fox 70%")
        terminal.type("\r")
        await terminal.shows("nothing is left for 'a bird'")
        terminal.type("\x7f" * len("0% | a bird") + "\x0e")
        await terminal.shows("fade, at once / a fox 70% | a cube 4")
        terminal.type("\x7f30%\r")
        await until(lambda: len(steering.controls) == 1, "the prompt")
        terminal.type("\x7f{")
        await until(lambda: len(steering.controls) == 3, "back, twice")
        assert [control.body for _, control in steering.controls] == [
            Prompt((Weighted("a fox", 0.7), Weighted("a cube", 0.3)), "soft", "now"),
            Rewind(5),
            Rewind(30),
        ]
        terminal.type("q")
        assert await terminal.ends() == 0


async def test_receipts_are_shown_with_their_times() -> None:
    async with playing() as (steering, _, terminal):
        steering.applies = False
        terminal.type("/slow fox\r")
        await until(lambda: steering.controls, "the prompt")
        await terminal.shows(" ms")
        steering.apply(*steering.controls[0])
        await terminal.shows("32")  # the frame
        terminal.type(UP)
        terminal.type("\x1b")  # a lone Esc is not a sequence
        await until(lambda: steering.controls[-1][1].body == Action("jump"), "jump")
        terminal.type("q")
        assert await terminal.ends() == 0


@pytest.mark.parametrize("how", ["SIGTERM", "SIGHUP", "ctrl-c"])
async def test_the_terminal_is_restored_however_it_ends(how: str) -> None:
    async with playing() as (steering, _, terminal):
        terminal.type(LEFT)
        await until(lambda: steering.controls, "left")
        if how == "ctrl-c":
            terminal.type("\x03")
        else:
            terminal.process.send_signal(getattr(signal, how))
        assert await terminal.ends() == 0
        assert terminal.restored
        await until(lambda: steering.controls[-1][1].body == Action(None), "let go in leaving")


async def test_the_end_of_a_session_is_shown() -> None:
    async with playing() as (steering, _, terminal):
        steering.close("main")
        assert await terminal.ends() == 1
        assert terminal.errors.decode() == "psistream play: the session main ended: the session was closed\n"
        assert terminal.restored


async def test_a_broker_that_goes_and_returns() -> None:
    steering, port = FakeSteering(), free_port()
    async with EmbeddedBroker(port) as broker, MqttBridge(steering, broker.url) as bridge:
        assert await bridge.wait_connected(30)
        terminal = Terminal("--mqtt", broker.url)
        await terminal.__aenter__()
        await terminal.shows("connected")
    try:
        await terminal.shows("broker not reachable, trying again")
        terminal.output.clear()
        async with EmbeddedBroker(port) as broker, MqttBridge(steering, broker.url):
            await terminal.shows("connected")
            terminal.type("p")
            await until(lambda: steering.controls, "pause")
            terminal.type("q")
            assert await terminal.ends() == 0
            assert terminal.restored
    finally:
        await terminal.__aexit__()


async def test_no_broker_is_one_clear_line() -> None:
    async with Terminal("--mqtt", f"mqtt://u:secret@127.0.0.1:{free_port()}") as terminal:
        assert await terminal.ends() == 1
        line = terminal.errors.decode()
        assert line.startswith("psistream play: no MQTT broker answers at mqtt://127.0.0.1:")
        assert line.count("\n") == 1
        assert "psistream serve" in line
        assert "secret" not in line


async def test_no_session_is_one_clear_line() -> None:
    steering = FakeSteering("one", "two")
    async with EmbeddedBroker(0) as broker, MqttBridge(steering, broker.url) as bridge:
        assert await bridge.wait_connected(30)
        async with Terminal("--mqtt", broker.url, "--session", "three") as terminal:
            assert await terminal.ends() == 1
            assert terminal.errors.decode().endswith("; there are: one, two\n")
            assert terminal.errors.startswith(b"psistream play: no session three at ")


@pytest.mark.parametrize("args", [["--session", "a/b"], ["--mqtt", "http://x"], ["--mqtt", "mqtt://x:99999"]])
def test_wrong_arguments_are_one_clear_line(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"psistream play: {args[0]} must")
    assert errors.count("\n") == 1


def test_without_a_terminal_it_names_alternatives(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--mqtt", "mqtt://127.0.0.1:1"]) == 1
    assert "mosquitto_pub" in capsys.readouterr().err


async def test_the_server_names_its_broker() -> None:
    told: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
        told.append(request)
        known = request == "/v1/sessions/main"
        body = json.dumps({"mqtt": {"url": url}} if known else {"code": "unknown_session"}).encode()
        status = b"200 OK" if known else b"404 Not Found"
        writer.write(
            b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body
        )
        writer.close()

    steering = FakeSteering()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, EmbeddedBroker(0) as broker, MqttBridge(steering, broker.url) as bridge:
        url = broker.url
        assert await bridge.wait_connected(30)
        async with Terminal(address) as terminal:
            await terminal.shows("connected")
            terminal.type("q")
            assert await terminal.ends() == 0
        async with Terminal(address, "--session", "nobody") as terminal:
            assert await terminal.ends() == 2
            assert terminal.errors.decode() == f"psistream play: no session nobody at {address}\n"
    assert told == ["/v1/sessions/main", "/v1/sessions/nobody"]
    async with Terminal(address) as terminal:
        assert await terminal.ends() == 1
        assert terminal.errors.decode().startswith(f"psistream play: no psistream server at {address} (")


async def test_a_task_that_swallows_a_cancellation_is_ended_all_the_same() -> None:
    """Quitting while a prompt was being sent used to hang forever."""
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed > 2:
                    raise

    async def failing() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise SteerError("too late")

    tasks = [asyncio.create_task(part()) for part in (stubborn, failing)]
    await asyncio.sleep(0)
    await end(*tasks)
    assert all(task.done() for task in tasks)
    assert swallowed == 3
