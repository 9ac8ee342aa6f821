"""The controls of a command line, and their progress: sent, received, applied, in milliseconds.

Knows the wire protocol's controls and receipts; the caller sends them.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clients.errors import ViewError
from clients.mix import mixed
from clients.steer.lost import WITHIN_S, Losses, to_send_again
from engine.commandline.parser import check_belongs
from engine.errors import InvalidInput

HOWS = ("recondition", "soft", "cut")
WHENS = ("next", "now")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    steer = parser.add_argument_group("steering, once the video plays")
    steer.add_argument(
        "--rewind", type=float, metavar="SECONDS", help="go back this many seconds, and continue from there"
    )
    steer.add_argument("--prompt", metavar="TEXT", help="what to show; a mix: 'a fox 70%% | a cube 30%%'")
    steer.add_argument(
        "--how", choices=HOWS, default=HOWS[0], help="keep the scene (default), change softly, or cut"
    )
    steer.add_argument(
        "--when", choices=WHENS, default=WHENS[0], help="with the next segment (default), or at once"
    )


def asked(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The controls of these arguments, in order. Raises InvalidInput."""
    controls: list[dict[str, Any]] = []
    if args.rewind is not None:
        if not 0 < args.rewind <= 3600:
            raise InvalidInput("--rewind must be a number of seconds above 0, at most 3600")
        controls.append({"type": "rewind", "seconds": args.rewind})
    if args.prompt is not None:
        if not args.prompt.strip():
            raise InvalidInput("--prompt must not be empty")
        try:
            fields = mixed(args.prompt)
        except ValueError as error:
            raise InvalidInput(f"--prompt: {error}") from None
        controls.append({"type": "prompt", **fields, "how": args.how, "when": args.when})
    else:
        check_belongs(args, "--prompt", "how", "when")
    return controls


@dataclass
class ControlProgress:
    control: dict[str, Any]
    sent_s: float
    status: str = "sent"
    frame: int | None = None  # the first one that shows it
    settled: bool = False
    due_s: float | None = None  # it was refused for now, and is to be sent again then


class SentControls:
    """Sends controls and follows their receipts. `clock` returns seconds."""

    def __init__(
        self, controls: list[dict[str, Any]], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._controls, self._clock = controls, clock
        self._losses = Losses()
        self.sent: dict[str, ControlProgress] = {}  # by id

    def send(self, send: Callable[[dict[str, Any]], str]) -> None:
        """Send all controls with `send`, which returns the id of each."""
        for control in self._controls:
            name = send(control)
            self.sent[name] = ControlProgress({**control, "id": name}, self._clock())

    def lost(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        """The controls that have to be sent again after this message of the session, with the same ids."""
        if message.get("type") == "closed":
            self._losses.ended(message)
        frames = self._losses.news(message) if message.get("type") == "session" else None
        lost = [] if frames is None else to_send_again(self.sent.values(), frames, self._clock())
        for progress in lost:
            progress.status, progress.settled = "sent again", False
        return [progress.control for progress in lost]

    def send_due(self, send: Callable[[dict[str, Any]], object]) -> None:
        """Send again what was refused for a while: once the first one's time has come, all of them, in order.
        What cannot be sent now waits."""
        waiting = [each for each in self.sent.values() if each.due_s is not None]
        if not waiting or self._clock() < min(each.due_s or 0.0 for each in waiting):
            return
        with contextlib.suppress(ViewError):  # there is no channel now
            for progress in waiting:
                send(progress.control)
                progress.due_s, progress.status = None, "sent again"

    def hear(self, message: dict[str, Any]) -> None:
        """Handle a message of the session. Raises ViewError if it rejects one of our controls."""
        progress = self.sent.get(str(message.get("id")))
        if progress is None or message.get("type") != "receipt":
            return
        kind, since_ms = progress.control["type"], 1000 * (self._clock() - progress.sent_s)
        again_s = message.get("retry_after_s")
        match message.get("status"):
            case "rejected" if isinstance(again_s, int) and since_ms < 1000 * WITHIN_S:
                progress.due_s = self._clock() + again_s
                progress.status = f"waits: {message.get('message')}"
            case "rejected":
                field = message.get("field")
                raise ViewError(f"{kind}: {f'{field}: ' if field else ''}{message.get('message')}")
            case "received" if not progress.settled:
                progress.status = f"received after {since_ms:.0f} ms"
            case "applied":
                where = f"segment {message.get('segment')}, frame {message.get('frame')}"
                note = f" ({message['message']})" if message.get("message") else ""
                progress.status, progress.settled = f"applied after {since_ms:.0f} ms, {where}{note}", True
                progress.frame = frame if isinstance(frame := message.get("frame"), int) else None

    def rows(self) -> list[tuple[str, str]]:
        return [(each.control["type"], each.status) for each in self.sent.values()]
