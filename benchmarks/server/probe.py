"""Times controls by the receipts and pictures of one viewer."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from benchmarks.report import BenchError
from benchmarks.server.subject import Subject
from clients.adapter.receiver import Picture
from clients.http import http_client
from clients.text import printable
from clients.whep import WhepViewer

PATIENCE_S = 15.0
PROMPTS = (
    "a red fox walks right through a forest at dusk",
    "a blue robot walks left through a city at night",
    "a yellow ball stands on a beach at noon",
    "a white bird walks right on the moon at dawn",
)


@dataclass
class TimedControl:
    """A control and its progress; all times from time.perf_counter()."""

    sent_s: float
    received_s: float | None = None
    applied_s: float | None = None
    pts_90k: int | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)
    seen_s: float | None = None
    refused: str | None = None


class ControlProbe:
    """Listens to one viewer and times the controls that it sends."""

    def __init__(self, viewer: WhepViewer) -> None:
        self.viewer = viewer
        self.sent: dict[str, TimedControl] = {}
        self.arrivals: list[float] = []
        self.segments: list[dict[str, Any]] = []
        viewer.on_picture, viewer.on_message = self._picture, self._message

    async def time(self, control: dict[str, Any]) -> TimedControl:
        """Send a control and wait until its picture has arrived. Raises BenchError, ViewError."""
        sent = TimedControl(time.perf_counter())
        id_ = self.viewer.send(control)
        self.sent[id_] = sent
        try:
            async with asyncio.timeout(PATIENCE_S):
                await sent.done.wait()
        except TimeoutError as error:
            raise BenchError(f"{control['type']}: its picture did not arrive in {PATIENCE_S:g} s") from error
        finally:
            del self.sent[id_]
        if sent.refused is not None:
            raise BenchError(f"{control['type']} was refused: {sent.refused}")
        return sent

    def forget(self) -> None:
        """Discard everything so far, such as the warm-up."""
        self.arrivals.clear()
        self.segments.clear()

    def _picture(self, picture: Picture) -> None:
        self.arrivals.append(picture.at_s)
        for sent in self.sent.values():
            if sent.pts_90k is not None and sent.seen_s is None and self.viewer.shows(picture, sent.pts_90k):
                sent.seen_s = picture.at_s
                sent.done.set()

    def _message(self, message: dict[str, Any]) -> None:
        if message.get("type") == "segment":
            self.segments.append(message)
        sent = self.sent.get(str(message.get("id")))
        if message.get("type") != "receipt" or sent is None:
            return
        now_s, status = time.perf_counter(), message.get("status")
        if status == "received":
            sent.received_s = now_s
        elif status == "applied":
            sent.applied_s, sent.pts_90k = now_s, message.get("pts_90k")
        elif status == "rejected":
            sent.refused = str(message.get("message") or message.get("code"))
            sent.done.set()


def total_ms(segment: dict[str, Any]) -> float:
    """Generation time of a segment, from its message."""
    return float(segment.get("timings_ms", {}).get("total", 0.0))


async def model_of(subject: Subject) -> dict[str, Any]:
    """The server's description of its model. Raises BenchError."""
    async with http_client(subject.target.base, 10.0) as http:
        http.headers.update(subject.target.headers)
        answer = await http.get(subject.target.path)
    model = answer.json().get("model") if answer.status_code == 200 else None
    if not isinstance(model, dict):
        raise BenchError(f"{subject.target.base} does not say which model it runs")
    return {key: printable(value) if isinstance(value, str) else value for key, value in model.items()}
