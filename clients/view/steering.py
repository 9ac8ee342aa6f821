"""Controls that a command line asks for, and what became of each: sent, received, applied, in milliseconds.

It knows the wire protocol's controls and receipts; who sends them is the caller's affair.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clients.mix import mixed
from clients.whep import ViewError

HOWS = ("recondition", "soft", "cut")
WHENS = ("next", "now")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    steer = parser.add_argument_group("steering, once the video is there")
    steer.add_argument("--rewind", type=float, metavar="SECONDS", help="go back so far, and on from there")
    steer.add_argument("--prompt", metavar="TEXT", help="what to show; mixed: 'a fox 70%% | a cube 30%%'")
    steer.add_argument(
        "--how", choices=HOWS, default=HOWS[0], help="keep the scene (default), change softly, or cut"
    )
    steer.add_argument(
        "--when", choices=WHENS, default=WHENS[0], help="with the next segment (default), or at once"
    )


def asked(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The controls that these arguments ask for, in order. Raises ViewError."""
    controls: list[dict[str, Any]] = []
    if args.rewind is not None:
        if not 0 < args.rewind <= 3600:
            raise ViewError("--rewind must be seconds, more than 0 and at most 3600")
        controls.append({"type": "rewind", "seconds": args.rewind})
    if args.prompt is not None:
        if not args.prompt.strip():
            raise ViewError("--prompt must not be empty")
        try:
            fields = mixed(args.prompt)
        except ValueError as error:
            raise ViewError(f"--prompt: {error}") from None
        controls.append({"type": "prompt", **fields, "how": args.how, "when": args.when})
    elif (args.how, args.when) != (HOWS[0], WHENS[0]):
        raise ViewError("--how and --when say how a prompt takes hold: give one with --prompt")
    return controls


@dataclass
class Fate:
    control: dict[str, Any]
    sent_s: float
    said: str = "sent"
    done: bool = False


class Steering:
    """`clock` is in seconds."""

    def __init__(
        self, controls: list[dict[str, Any]], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._controls, self._clock = controls, clock
        self.fates: dict[str, Fate] = {}

    def send(self, send: Callable[[dict[str, Any]], str]) -> None:
        """All of them, by this way; it gives each an id."""
        for control in self._controls:
            self.fates[send(control)] = Fate(control, self._clock())

    def hear(self, message: dict[str, Any]) -> None:
        """A message of the session. Raises ViewError where it refuses one of ours."""
        fate = self.fates.get(str(message.get("id")))
        if fate is None or message.get("type") != "receipt":
            return
        kind, since_ms = fate.control["type"], 1000 * (self._clock() - fate.sent_s)
        match message.get("status"):
            case "rejected":
                field = message.get("field")
                raise ViewError(f"{kind}: {f'{field}: ' if field else ''}{message.get('message')}")
            case "received" if not fate.done:
                fate.said = f"received after {since_ms:.0f} ms"
            case "applied":
                where = f"segment {message.get('segment')}, frame {message.get('frame')}"
                note = f" ({message['message']})" if message.get("message") else ""
                fate.said, fate.done = f"applied after {since_ms:.0f} ms, {where}{note}", True

    def rows(self) -> list[tuple[str, str]]:
        return [(fate.control["type"], fate.said) for fate in self.fates.values()]
