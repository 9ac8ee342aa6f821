"""`psistream play`: steer a session from the terminal, over MQTT. Arrow keys walk and jump, / types a prompt.

Joins keys (keys.py), wire (mqtt.py) and screen (screen.py), and restores the terminal at the end.
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

from clients.command import OK, ClientParser, run
from clients.errors import PlayError
from clients.mix import mixed
from clients.play.keys import HeldAction, Keys, actions_of_keys
from clients.play.mqtt import Broker, Wire, broker_of, check_session, end
from clients.play.screen import HOWS, WHENS, TerminalScreen, printable

SERVER = "http://127.0.0.1:8080"
BROKER = "mqtt://127.0.0.1:1883"
MAX_PROMPT_BYTES = 2048
TICK_S = 0.05
REWIND_S = {"backspace": 5, "[": 5, "{": 30}
ESCAPE_S = 0.05  # after this, a lone ESC is the key


class TerminalClient:
    """One session, one terminal. `run` returns when the player quits, or raises PlayError."""

    def __init__(self, broker: Broker, session: str, how: str = HOWS[0], when: str = WHENS[0]) -> None:
        self.screen = TerminalScreen(session, broker.shown, how=how, when=when)
        self._wire = Wire(broker, session, self._hear, self._set_online)
        self._keys = Keys()
        self._held = HeldAction()
        self._quit = asyncio.Event()
        self._ended: str | None = None
        self._dirty = True

    async def run(self, console: Console) -> None:
        talk = asyncio.create_task(self._wire.run(), name="talk")
        try:
            await self._wire.wait_there(talk)
            terminal = sys.stdin.fileno()
            loop = asyncio.get_running_loop()
            for signal_ in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(signal_, self._quit.set)
            with raw_terminal(terminal), Live(screen=True, auto_refresh=False, console=console) as live:
                loop.add_reader(terminal, self._read_keys, terminal)
                try:
                    await self._play(live, talk)
                finally:
                    loop.remove_reader(terminal)
        finally:
            await end(talk)
        if self._ended is not None:
            raise PlayError(self._ended)

    async def _play(self, live: Live, talk: asyncio.Task[None]) -> None:
        while not self._quit.is_set():
            if talk.done():
                await talk
            if self._held.expire(time.monotonic()):
                self._send("action", {"action": None}, "release")
            if self._dirty:
                self._dirty = False
                live.update(self.screen.render(), refresh=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._quit.wait()
        if self._held.current is not None:  # nobody is left to release the key
            self._send("action", {"action": None}, "release")
            await asyncio.sleep(2 * TICK_S)

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
        self.screen.remember(self._wire.send(verb, body), label, time.monotonic())
        self._dirty = True

    def _set_online(self, online: bool) -> None:
        self.screen.online, self._dirty = online, True

    def _hear(self, kind: str, message: dict[str, Any]) -> None:
        screen = self.screen
        self._dirty = True
        if kind == "ack":
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
    """Keys arrive one by one and are not echoed. Always restores the terminal."""
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
    made = ClientParser(
        prog="psistream play",
        description="Steer a session from the terminal: arrow keys, and / to type a prompt.",
    )
    made.add_argument("server", nargs="?", metavar="URL", help=f"the server (default: {SERVER})")
    made.add_argument("--mqtt", metavar="URL", help=f"the broker (default: the server's, else {BROKER})")
    made.add_argument("--session", default="main", metavar="ID", help="the session (default: %(default)s)")
    made.add_argument("--how", choices=HOWS, default=HOWS[0], help="how prompts take effect (Tab changes it)")
    made.add_argument(
        "--when", choices=WHENS, default=WHENS[0], help="when prompts take effect (Ctrl+N changes it)"
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    return run("psistream play", lambda: _main(parser().parse_args(argv)))


def _main(args: argparse.Namespace) -> int:
    for name in ("asyncio", "mqtt"):  # the screen shows reconnects; a log line would spoil it
        logging.getLogger(name).setLevel(logging.CRITICAL)
    check_session(args.session)
    if args.mqtt is not None:
        Broker.parse(args.mqtt)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise PlayError("this needs a terminal; to steer from a script use mosquitto_pub or HTTP")
    asyncio.run(play(args))
    return OK


async def play(args: argparse.Namespace) -> None:
    server, mqtt, session = args.server, args.mqtt, args.session
    if mqtt is None:
        try:
            mqtt = await broker_of(server or SERVER, session)
        except PlayError:
            if server is not None:
                raise
            mqtt = BROKER
    await TerminalClient(Broker.parse(mqtt), session, args.how, args.when).run(Console())
