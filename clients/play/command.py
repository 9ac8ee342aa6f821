"""`psistream play`: steer a session from the terminal over MQTT. Arrow keys walk and jump, / starts a prompt.

It connects keys, screen and clients.steer, and restores the terminal at the end. It imports no server code.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console
from rich.live import Live

from clients.mix import mixed
from clients.play.keys import HeldAction, Keys, actions_of_keys
from clients.play.screen import HOWS, WHENS, TerminalScreen
from clients.steer import SteeredSession, SteerError
from clients.steer.mqtt import Broker, MqttTransport
from clients.steer.transport import Kind, check_session
from clients.steer.ways import broker_of
from clients.target import Target
from clients.text import printable
from engine.commandline.parser import Parser
from engine.commandline.runner import OK, run
from engine.errors import InvalidInput

SERVER = "http://127.0.0.1:8080"
BROKER = "mqtt://127.0.0.1:1883"
MAX_PROMPT_BYTES = 2048
TICK_S = 0.05
REWIND_S = {"backspace": 5, "[": 5, "{": 30}
ESCAPE_S = 0.05  # after this, a lone ESC is the key


class TerminalClient:
    """One session in one terminal. `run` returns when the user quits, or raises SteerError."""

    def __init__(self, transport: MqttTransport, name: str, how: str = HOWS[0], when: str = WHENS[0]) -> None:
        self.screen = TerminalScreen(name, transport.shown, how=how, when=when)
        self._session = SteeredSession(transport)
        self._session.listen(self._hear)
        self._keys = Keys()
        self._held = HeldAction()
        self._quit = asyncio.Event()
        self._ended: str | None = None
        self._dirty = True

    async def run(self, console: Console) -> None:
        async with self._session as session:
            terminal = sys.stdin.fileno()
            loop = asyncio.get_running_loop()
            for signal_ in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(signal_, self._quit.set)
            with raw_terminal(terminal), Live(screen=True, auto_refresh=False, console=console) as live:
                loop.add_reader(terminal, self._read_keys, terminal)
                try:
                    await self._play(live, session)
                finally:
                    loop.remove_reader(terminal)
        if self._ended is not None:
            raise SteerError(self._ended)

    async def _play(self, live: Live, session: SteeredSession) -> None:
        while not self._quit.is_set():
            session.check()
            if self._held.expire(time.monotonic()):
                self._send("action", {"action": None}, "release")
            if self._dirty:
                self._dirty = False
                live.update(self.screen.render(), refresh=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._quit.wait()
        if self._held.current is not None:  # otherwise the key would stay held
            self._send("action", {"action": None}, "release")

    # ---- keys ----

    def _read_keys(self, terminal: int) -> None:
        try:
            data = os.read(terminal, 1024)
        except OSError:
            data = b""
        if not data:  # the terminal is gone
            self._quit.set()
            return
        self._press(self._keys.feed(data))
        if self._keys.waiting:
            asyncio.get_running_loop().call_later(ESCAPE_S, lambda: self._press(self._keys.flush()))

    def _press(self, keys: list[str]) -> None:
        for key in keys:
            self._dirty = True
            if key == "quit":
                self._quit.set()
            elif self.screen.editing is not None:
                self._edit(key, self.screen.editing)
            else:
                self._command(key)

    def _command(self, key: str) -> None:
        action = actions_of_keys(self.screen.info.get("actions")).get(key)
        if action is not None:
            if self._held.press(action, time.monotonic()):
                self._send("action", {"action": action}, action)
        elif key == "/":
            self.screen.editing, self.screen.notice = "", ""
        elif key == "p":
            verb = "resume" if self.screen.info.get("paused") else "pause"
            self._send(verb, {}, verb)
        elif key == "r":
            self._send("reset", {}, "reset")
        elif key in REWIND_S:
            self._send("rewind", {"seconds": REWIND_S[key]}, f"back {REWIND_S[key]} s")
        elif key == "q":
            self._quit.set()

    def _edit(self, key: str, text: str) -> None:
        if key == "escape":
            self.screen.editing = None
        elif key == "tab":
            self.screen.how = HOWS[(HOWS.index(self.screen.how) + 1) % len(HOWS)]
        elif key == "now":
            self.screen.when = "next" if self.screen.when == "now" else "now"
        elif key == "backspace":
            self.screen.editing = text[:-1]
        elif key == "enter":
            self._prompt(text)
        elif len(key) == 1 and len((text + key).encode()) <= MAX_PROMPT_BYTES:
            self.screen.editing = text + key

    def _prompt(self, text: str) -> None:
        screen = self.screen
        try:
            fields = mixed(text)
        except ValueError as error:
            screen.notice = str(error)
            return
        screen.editing, screen.notice = None, ""
        if text.strip():
            self._send("prompt", {**fields, "how": screen.how, "when": screen.when}, text)

    # ---- the wire ----

    def _send(self, verb: str, body: dict[str, Any], label: str) -> None:
        self.screen.remember(self._session.send(verb, **body).id, label, time.monotonic())
        self._dirty = True

    def _hear(self, kind: Kind, message: dict[str, Any]) -> None:
        screen = self.screen
        self._dirty = True
        if kind == "connection":
            screen.online = message.get("online") is True
        elif kind == "receipt":
            screen.hear(message, time.monotonic())
        elif kind == "status":
            screen.engine = str(message.get("status", "online"))
        elif kind == "state" and message:
            screen.info = message
        elif message.get("type") == "segment":
            screen.stats = message
            screen.info = {**screen.info, "segment": message.get("segment"), "frame": message.get("frame")}
        elif message.get("type") == "closed":
            self._ended = f"the session {screen.session} ended: {printable(message.get('message', ''))}"
            self._quit.set()


@contextmanager
def raw_terminal(terminal: int) -> Iterator[None]:
    """Deliver keys one by one and without echo. Always restores the terminal."""
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal)
        changed = termios.tcgetattr(terminal)
        changed[3] &= ~termios.ISIG  # Ctrl-C arrives as a key; Ctrl-Z would leave the shell a raw terminal
        termios.tcsetattr(terminal, termios.TCSANOW, changed)
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)


def parser() -> argparse.ArgumentParser:
    made = Parser(
        prog="psistream play",
        description="Steer a session from the terminal: arrow keys, and / to type a prompt.",
    )
    made.add_argument("server", nargs="?", metavar="URL", help=f"the server (default: {SERVER})")
    made.add_argument("--mqtt", metavar="URL", help=f"the broker (default: the server's, else {BROKER})")
    made.add_argument("--session", metavar="ID", help="the session (default: the one in the link, else main)")
    made.add_argument("--token", help="its token (default: the one in the link)")
    made.add_argument("--how", choices=HOWS, default=HOWS[0], help="how prompts take effect (Tab changes it)")
    made.add_argument(
        "--when", choices=WHENS, default=WHENS[0], help="when prompts take effect (Ctrl+N changes it)"
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    return run("psistream play", lambda: _main(parser().parse_args(argv)))


def _main(args: argparse.Namespace) -> int:
    for name in ("asyncio", "mqtt"):  # the screen shows reconnects; log lines would garble it
        logging.getLogger(name).setLevel(logging.CRITICAL)
    _check(args)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise SteerError("this needs a terminal; to steer from a script use mosquitto_pub or HTTP")
    asyncio.run(play(args))
    return OK


def _check(args: argparse.Namespace) -> None:
    """Raises InvalidInput that starts with the option."""
    if args.mqtt is not None and args.server is not None:
        raise InvalidInput("give the server's URL or --mqtt, not both: a server says where its broker is")
    try:
        if args.session is not None:
            check_session(args.session)
        if args.mqtt is not None:
            Broker.parse(args.mqtt)
    except SteerError as error:
        raise InvalidInput(f"--{error}") from None


async def play(args: argparse.Namespace) -> None:
    transport, session = await _way_to(args)
    await TerminalClient(transport, session, args.how, args.when).run(Console())


async def _way_to(args: argparse.Namespace) -> tuple[MqttTransport, str]:
    """A connection to the broker that the arguments name, or that the server names, or the default one; and
    the session's id. Raises InvalidInput, SteerError."""
    if args.mqtt is not None:
        session = args.session or "main"
        return MqttTransport(Broker.parse(args.mqtt), session, token=args.token), session
    target = Target.parse(args.server or SERVER, args.session, args.token)
    check_session(target.session)
    try:
        url, topic = await broker_of(target)
    except SteerError:
        if args.server is not None:
            raise
        return MqttTransport(Broker.parse(BROKER), target.session, token=target.token), target.session
    transport = MqttTransport(Broker.parse(url), target.session, topic=topic, token=target.token)
    return transport, target.session
