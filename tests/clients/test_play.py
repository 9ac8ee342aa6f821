"""The terminal game client: its keys and screen by themselves, and the whole of it in a pseudo-terminal."""

from __future__ import annotations

import asyncio
import fcntl
import io
import json
import os
import pty
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from rich.console import Console

from clients.pace import pace
from clients.play.command import main
from clients.play.keys import FIRST_HOLD_S, HOLD_S, HeldAction, Keys
from clients.play.screen import RECEIPTS, TerminalScreen
from clients.steer import SteerError
from clients.steer.mqtt import Broker
from clients.steer.transport import end
from engine.types import Action, Pause, Prompt, Reset, Resume, Rewind, Weighted
from server.control.mqtt.bridge import MqttBridge
from server.control.mqtt.embedded.builtin import EmbeddedBroker
from tests.rigs.control_fakes import FakeSteering, free_port, segment_stats, until

LEFT, RIGHT, UP = b"\x1b[D", b"\x1b[C", b"\x1bOA"


class Terminal:
    """`psistream play` in a pseudo-terminal of 80x24."""

    def __init__(self, *args: str) -> None:
        self._args = args
        self.output = bytearray()
        self.errors = bytearray()

    async def __aenter__(self) -> Terminal:
        self._master, self._slave = pty.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self._before = termios.tcgetattr(self._slave)
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "server.cli",
            "play",
            *self._args,
            stdin=self._slave,
            stdout=self._slave,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
        )
        asyncio.get_running_loop().add_reader(self._master, self._read)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)
        os.close(self._slave)

    def _read(self) -> None:
        with suppress(OSError):
            self.output += os.read(self._master, 65536)

    def type(self, data: bytes | str) -> None:
        os.write(self._master, data.encode() if isinstance(data, str) else data)

    async def shows(self, text: str) -> None:
        await until(
            lambda: text.encode() in self.output,
            f"{text!r} on the screen, but {bytes(self.output[-2000:])!r}",
        )

    async def ends(self) -> int:
        assert self.process.stderr is not None
        async with asyncio.timeout(20):
            self.errors += await self.process.stderr.read()
            status = await self.process.wait()
        self._read_rest()
        return status

    def _read_rest(self) -> None:
        os.set_blocking(self._master, False)
        self._read()

    @property
    def restored(self) -> bool:
        """The terminal's settings are as before, and the alternate screen and hidden cursor are undone."""
        again = termios.tcgetattr(self._slave) == self._before
        undone = self.output.rfind(b"\x1b[?1049l") > self.output.rfind(b"\x1b[?1049h")
        return again and undone and self.output.rfind(b"\x1b[?25h") > self.output.rfind(b"\x1b[?25l")


@asynccontextmanager
async def playing(*args: str) -> AsyncIterator[tuple[FakeSteering, EmbeddedBroker, Terminal]]:
    steering = FakeSteering("main", "other")
    async with EmbeddedBroker(0) as broker, MqttBridge(steering, broker.url) as bridge:
        assert await bridge.wait_connected(30)
        async with Terminal("--mqtt", broker.url, *args) as terminal:
            await terminal.shows("connected")
            yield steering, broker, terminal


async def test_keys_and_prompts_steer_the_session() -> None:
    async with playing() as (steering, _, terminal):
        await terminal.shows("a red robot walks")
        for _ in range(3):
            terminal.type(RIGHT)
            await asyncio.sleep(0.03)  # a key that repeats
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
        terminal.type("\x1b")  # a lone Esc is no sequence
        await until(lambda: steering.controls[-1][1].body == Action("jump"), "jump")
        terminal.type("q")
        assert await terminal.ends() == 0


@pytest.mark.parametrize("how", ["SIGTERM", "SIGHUP", "ctrl-c"])
async def test_the_terminal_is_given_back_however_it_ends(how: str) -> None:
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


async def test_a_session_that_ends_is_told() -> None:
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
        await terminal.shows("no broker, trying again")
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


def test_without_a_terminal_it_says_what_else_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--mqtt", "mqtt://127.0.0.1:1"]) == 1
    assert "mosquitto_pub" in capsys.readouterr().err


async def test_the_server_says_where_its_broker_is() -> None:
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
            assert await terminal.ends() == 1
            assert terminal.errors.decode() == f"psistream play: no session nobody at {address}\n"
    assert told == ["/v1/sessions/main", "/v1/sessions/nobody"]
    async with Terminal(address) as terminal:
        assert await terminal.ends() == 1
        assert terminal.errors.decode().startswith(f"psistream play: no psistream server at {address} (")


# ---- by themselves ----


def test_keys_are_decoded_in_whatever_pieces_they_come() -> None:
    data = "\x1b[D\x1bOC\x1b[1;5A\x1b[15~é狐\r\x7f\t".encode()
    expected = ["left", "right", "up", "é", "狐", "enter", "backspace", "tab"]
    assert Keys().feed(data) == expected
    keys = Keys()
    assert [key for byte in data for key in keys.feed(bytes([byte]))] == expected


def test_a_lone_escape_is_a_key_once_nothing_follows() -> None:
    keys = Keys()
    assert keys.feed(b"\x1b") == []
    assert keys.waiting
    assert keys.flush() == ["escape"]
    assert keys.flush() == []
    assert keys.feed(b"\x1bq") == ["escape", "q"]
    assert keys.feed(b"\xff\x00\x01q") == ["\ufffd", "q"]


def test_a_key_is_held_until_its_repeats_end() -> None:
    held = HeldAction()
    assert held.press("left", 0.0)
    assert not held.expire(FIRST_HOLD_S - 0.01)  # keyboards wait about half a second before they repeat
    assert not held.press("left", 0.5)
    assert not held.press("left", 0.6)
    assert not held.expire(0.6 + HOLD_S - 0.01)
    assert held.expire(0.6 + HOLD_S)
    assert held.current is None
    assert not held.expire(99.0)
    assert held.press("left", 100.0)
    assert held.press("right", 100.1)
    assert held.current == "right"


def rendered(screen: TerminalScreen) -> list[str]:
    console = Console(width=80, height=24, file=io.StringIO(), color_system=None)
    console.print(screen.render())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_the_screen_fits_80x24_and_lets_nothing_through_to_the_terminal() -> None:
    """A hostile broker could otherwise write escape sequences into the player's terminal."""
    evil = "\x1b]0;gotcha\x07\x9b31m" + "long " * 100
    screen = TerminalScreen("main", "mqtt://127.0.0.1:1883", engine=evil, notice=evil)
    screen.info = {"prompt": evil, "action": evil, "segment": evil, "seed": True, "state_bytes": 10**400}
    screen.stats = {"timings_ms": {"total": float("nan")}, "lead_ms": None}
    for number in range(2 * RECEIPTS):
        screen.remember(f"c{number}", evil, 0.0)
        screen.hear({"id": f"c{number}", "status": "rejected", "code": evil, "message": evil}, 1.0)
    lines = rendered(screen)
    assert len(lines) <= 24
    assert all(len(line) <= 80 for line in lines)
    assert all(line.isprintable() for line in lines)
    screen.editing = "x" * 2000
    assert any("x▏" in line for line in rendered(screen))


def test_a_device_that_is_too_slow_is_told() -> None:
    screen = TerminalScreen("main", "broker")
    assert any("playing" in line for line in rendered(screen))
    screen.stats = {"rate": 0.48}
    assert any("slow motion, 0.48×" in line for line in rendered(screen))
    screen.info = {"buffering": {"speed": 0.04, "rate": 0.2, "resumes_in_s": 11.2}}
    assert any("buffering, resumes in about 12 s" in line for line in rendered(screen))
    screen.info = {"buffering": None, "paused": True}
    assert any("paused" in line for line in rendered(screen))


@pytest.mark.parametrize("odd", [None, "x", True, float("nan"), float("inf"), 10**400, -1, 0, [], {}])
def test_odd_figures_of_speed_are_taken_for_none(odd: object) -> None:
    assert pace({"buffering": {"resumes_in_s": odd}}, {}) == "buffering, resumes any moment"
    assert pace({}, {"rate": odd}) == ""
    assert pace({"buffering": None if isinstance(odd, dict) else odd}, {"rate": 1.0}) == ""


def test_receipts_of_others_are_not_ours() -> None:
    screen = TerminalScreen("main", "broker")
    screen.remember("a", "left", 10.0)
    screen.hear({"id": "b", "status": "received"}, 10.1)
    screen.hear({"id": ["a"], "status": None}, 10.1)
    assert not screen.sent["a"].received_ms
    screen.hear({"id": "a", "status": "received"}, 10.25)
    screen.hear({"id": "a", "status": "applied", "segment": 5, "frame": 40}, 10.5)
    assert (screen.sent["a"].received_ms, screen.sent["a"].applied_ms) == (250.0, 500.0)
    assert any("250 ms" in line and "500 ms" in line and "40" in line for line in rendered(screen))


def test_broker_urls() -> None:
    assert Broker.parse("mqtt://h") == Broker("h", 1883)
    assert Broker.parse("mqtts://u:p%20w@h") == Broker("h", 8883, True, "u", "p w")
    assert "p w" not in repr(Broker.parse("mqtts://u:p%20w@h"))
    with pytest.raises(SteerError):
        Broker.parse("mqtt://[")


async def test_a_task_that_swallows_a_cancellation_is_ended_all_the_same() -> None:
    """Quitting just while a prompt went out hung for ever."""
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
