"""The terminal client's state and its display: one screen of text. It knows neither MQTT nor keys.

Text from the wire is reduced to printable characters, so no escape sequence reaches the terminal.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from clients.pace import pace
from clients.play.keys import USUAL, actions_of_keys
from clients.text import printable

RECEIPTS = 9
HOWS, WHENS = ("recondition", "soft", "cut"), ("next", "now")
WORDS = {"recondition": "keep scene", "soft": "fade", "cut": "new scene"}
ARROWS = {"left": "←", "right": "→", "up": "↑", "down": "↓", " ": "space"}
USUAL_HELP = "←→ walk  ↑ jump  ↓ stand"
HELP = "/ prompt  [ back 5 s  { 30 s  p pause  r reset  q quit"
EDIT_HELP = "Enter send   Tab keep, fade or new scene   Ctrl+N at once   Esc cancel"


@dataclass
class SentControl:
    """One of our controls and its progress."""

    label: str
    sent_s: float
    received_ms: float | None = None
    applied_ms: float | None = None
    segment: int | None = None
    frame: int | None = None
    fault: str | None = None
    waits: str | None = None  # why it is to be sent again


@dataclass
class TerminalScreen:
    session: str
    broker: str
    online: bool = True
    engine: str = "online"
    info: dict[str, Any] = field(default_factory=dict)
    stats: dict[str, Any] = field(default_factory=dict)
    sent: OrderedDict[str, SentControl] = field(default_factory=OrderedDict)
    editing: str | None = None  # the prompt being typed
    how: str = HOWS[0]
    when: str = WHENS[0]
    notice: str = ""

    def remember(self, id_: str, label: str, now_s: float) -> None:
        self.sent[id_] = SentControl(printable(label), now_s)
        while len(self.sent) > RECEIPTS:
            self.sent.popitem(last=False)

    def hear(self, receipt: dict[str, Any], now_s: float) -> None:
        """A receipt for one of our controls."""
        sent = self.sent.get(str(receipt.get("id")))
        if sent is None:
            return
        elapsed_ms, sent.waits = (now_s - sent.sent_s) * 1000, None
        match receipt.get("status"):
            case "received":
                sent.received_ms = elapsed_ms
            case "applied":
                sent.applied_ms = elapsed_ms
                sent.segment, sent.frame = receipt.get("segment"), receipt.get("frame")
            case "rejected" if receipt.get("retry_after_s") is not None:
                sent.waits = printable(receipt.get("message"))
            case "rejected":
                sent.fault = printable(f"{receipt.get('code')}: {receipt.get('message')}")

    def render(self) -> Group:
        return Group(
            self._title(),
            Text(),
            *self._state(),
            Text(),
            self._receipts(),
            Text(),
            self._editor(),
            self._help(),
        )

    def _title(self) -> Text:
        title = Text(
            f"psistream · {self.session} · {self.broker}  ", style="bold", no_wrap=True, overflow="ellipsis"
        )
        if not self.online:
            title.append("broker not reachable, trying again", style="bold red")
        elif self.engine != "online":
            title.append(f"the server is {printable(self.engine)}", style="bold yellow")
        else:
            title.append("connected", style="green")
        return title

    def _state(self) -> list[Text]:
        info, stats = self.info, self.stats
        timings = stats.get("timings_ms")
        total = timings.get("total") if isinstance(timings, dict) else None
        lines = [
            f"prompt   {printable(info.get('prompt', '…'))}",
            f"state    {'paused' if info.get('paused') else pace(info, stats) or 'playing'}, "
            f"action {printable(info.get('action') or 'none')}, segment {number(info.get('segment'))}, "
            f"frame {number(info.get('frame'))}, "
            f"viewers {number(info.get('viewers'))}",
            f"figures  segment {number(total, 'ms')}, lead {number(stats.get('lead_ms'), 'ms')}, "
            f"encode {number(stats.get('encode_ms'), 'ms')}, late {number(stats.get('late_total'))}, "
            f"state {number(info.get('state_bytes'), 'bytes')}",
        ]
        return [Text(line, no_wrap=True, overflow="ellipsis") for line in lines]

    def _receipts(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), expand=True, show_edge=False)
        table.add_column("sent", ratio=1, no_wrap=True, overflow="ellipsis")
        for name in ("received", "applied", "segment", "frame"):
            table.add_column(name, justify="right", no_wrap=True, min_width=8)
        for sent in list(self.sent.values()):
            if (told := sent.fault or sent.waits) is not None:
                table.add_row(Text(f"{sent.label}: {told}", style="red" if sent.fault else "yellow"))
                continue
            table.add_row(
                Text(sent.label),
                number(sent.received_ms, "ms"),
                number(sent.applied_ms, "ms"),
                number(sent.segment),
                number(sent.frame),
            )
        for _ in range(RECEIPTS - len(self.sent)):
            table.add_row("")
        return table

    def _editor(self) -> Text:
        if self.editing is None:
            return Text(printable(self.notice), style="yellow", no_wrap=True, overflow="ellipsis")
        ways = WORDS[self.how] + (", at once" if self.when == "now" else "")
        line = Text(style="bold", no_wrap=True, overflow="ellipsis")
        line.append(f"{ways} / {printable(self.editing)[-50:]}▏")
        if self.notice:
            line.append(f"\n{printable(self.notice)}", style="yellow")
        return line

    def _help(self) -> Text:
        help_ = f"{self._action_help()}  {HELP}" if self.editing is None else EDIT_HELP
        return Text(help_, style="dim", no_wrap=True, overflow="ellipsis")

    def _action_help(self) -> str:
        keys = actions_of_keys(self.info.get("actions"))
        if set(keys.values()) == set(USUAL.values()):
            return USUAL_HELP
        return "  ".join(f"{ARROWS.get(key, key)} {printable(action)}" for key, action in keys.items())


def number(value: object, unit: str = "") -> str:
    """A number from the wire, or … if it is missing."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
        return "…"
    return f"{value:,.0f} {unit}".strip()
