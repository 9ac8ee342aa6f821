"""`psistream bench latency`: the latency that a viewer experiences, measured by a WebRTC client that decodes
every frame.

Prompt to photon is the time from sending a prompt to holding the first decoded frame of the segment that
follows it. "Until made" covers waiting for a segment boundary (not with `now`) and generating; "until shown"
covers waiting for playout, encoding and the network. A frame is complete at its RTP marker, as in a browser;
a screen adds its own refresh. The warm-up is not measured.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import httpx

from benchmarks.machine import description, resident_bytes
from benchmarks.report import BenchError, BenchReport, percentile
from benchmarks.server.probe import PATIENCE_S, PROMPTS, ControlProbe, model_of, total_ms
from benchmarks.server.subject import Subject
from clients.errors import ViewError
from clients.http import http_client
from clients.whep import WhepViewer

PAUSE_S = (0.35, 1.15)  # between two controls, so that they arrive at random points of a segment
HTTP_PAUSE_S = 0.02  # between two requests, to stay below the session's rate limit


async def measure(
    subject: Subject, n: int, joins: int, warm_up_s: float, *, soft: bool = False
) -> BenchReport:
    """`soft`: also soft changes. Raises BenchError, ViewError."""
    machine = description()
    rng = random.Random(1)
    memory = {"start": resident_bytes(subject.pid) if subject.pid else None}
    first = [await _join(subject) for _ in range(joins)]
    series: dict[str, Sequence[float]] = {}
    receipts: list[float] = []
    viewer = WhepViewer(subject.target)
    probe = ControlProbe(viewer)
    async with viewer:
        await viewer.ready(PATIENCE_S)
        await asyncio.sleep(warm_up_s)
        probe.forget()
        actions = (await model_of(subject))["actions"]
        controls: dict[str, list[dict[str, Any]]] = {
            "prompt to photon, blend": [_prompt(i, "recondition") for i in range(n)],
            "prompt to photon, blend now": [_prompt(i, "recondition", "now") for i in range(n)],
            "prompt to photon, new scene": [_prompt(i, "cut") for i in range(n)],
            "prompt to photon, new scene now": [_prompt(i, "cut", "now") for i in range(n)],
        }
        if soft:
            controls["prompt to photon, soft, its first part"] = [_prompt(i, "soft") for i in range(n)]
        if actions:
            controls["action to photon"] = [_action(i, actions) for i in range(n)]
        for name, list_ in controls.items():
            seen, made, turn = [], [], []
            for control in list_:
                await asyncio.sleep(rng.uniform(*PAUSE_S))
                sent = await probe.time(control)
                seen.append(1000 * ((sent.seen_s or 0) - sent.sent_s))
                if sent.applied_s is not None and sent.seen_s is not None:
                    made.append(1000 * (sent.applied_s - sent.sent_s))
                    turn.append(1000 * (sent.seen_s - sent.applied_s))
                if sent.received_s is not None:
                    receipts.append(1000 * (sent.received_s - sent.sent_s))
            series[name] = seen
            series[f"  {name}: until made"] = made
            series[f"  {name}: until shown"] = turn
        if actions:
            viewer.send({"type": "action", "action": None})
        series["receipt of a control"] = receipts
        series.update(await _http(subject, 10 * n))
        series["time to first frame"] = first
        series["frame interval"] = [1000 * (b - a) for a, b in pairwise(probe.arrivals)]
        series["segment, to make"] = [total_ms(s) for s in probe.segments]
        series["frame, to encode"] = [s["encode_ms"] for s in probe.segments]
        memory["end"] = resident_bytes(subject.pid) if subject.pid else None
        model = await model_of(subject)
    settings = {"n": n, "model": model["name"], "backend": model["backend"]}
    settings["picture"] = f"{model['width']}x{model['height']} at {model['fps']} fps"
    settings["server"] = "its own, on this machine" if subject.pid else subject.target.base
    report = BenchReport("latency", machine, settings, series)
    report.singles = _singles(subject, probe, model, memory)
    return report


def _prompt(i: int, how: str, when: str = "next") -> dict[str, Any]:
    return {"type": "prompt", "text": PROMPTS[i % len(PROMPTS)], "how": how, "when": when}


def _action(i: int, actions: Sequence[str]) -> dict[str, Any]:
    """Another action each time, or releasing the only one."""
    return {"type": "action", "action": [*actions, None][i % max(2, len(actions))]}


def _singles(
    subject: Subject, probe: ControlProbe, model: dict[str, Any], memory: dict[str, int | None]
) -> dict[str, tuple[float, str]]:
    singles: dict[str, tuple[float, str]] = {}
    playback_ms = 1000 * model["frames_per_segment"] / model["fps"]
    made = [total_ms(s) for s in probe.segments]
    if made and (middle := percentile(made, 0.5)) > 0:
        singles["generation speed over playback, one viewer"] = (round(playback_ms / middle, 2), "×")
    singles["segment, to play"] = (round(playback_ms, 1), "ms")
    span_s = probe.arrivals[-1] - probe.arrivals[0] if len(probe.arrivals) > 1 else 0.0
    if span_s:
        singles["frames received"] = (round((len(probe.arrivals) - 1) / span_s, 2), "per second")
    if probe.segments:
        last, begin = probe.segments[-1], probe.segments[0]
        singles["state of the session"] = (last["state_bytes"], "bytes")
        singles["segments late"] = (last["late_total"] - begin["late_total"], f"of {len(probe.segments)}")
        dropped = last["dropped_frames_total"] - begin["dropped_frames_total"]
        frames = model["frames_per_segment"] * len(probe.segments)
        singles["frames dropped by the server"] = (dropped, f"of {frames}")
    if subject.start_s is not None:
        singles["start-up, to ready"] = (round(subject.start_s, 2), "s")
    for when, size in memory.items():
        if size is not None:
            singles[f"resident memory, {when}"] = (round(size / 2**20, 1), "MiB")
    return singles


async def _http(subject: Subject, n: int) -> dict[str, list[float]]:
    """HTTP requests while the video plays: on one persistent connection, and on new connections."""
    kinds = {"livez": "livez", "state": subject.target.path, "page": ""}
    found: dict[str, list[float]] = {}
    async with http_client(subject.target.base, PATIENCE_S) as http:
        http.headers.update(subject.target.headers)
        for name, path in kinds.items():
            found[f"HTTP, {name}"] = [await _asked(http, path) for _ in range(n + 1)][1:]
        control = {"type": "action", "action": None}
        sending = f"{subject.target.path}/controls"
        found["HTTP, control"] = [await _asked(http, sending, control) for _ in range(n + 1)][1:]
        found["HTTP, livez, new connection"] = [
            await _asked(http, "livez", headers={"Connection": "close"}) for _ in range(n)
        ]
    return found


async def _asked(http: httpx.AsyncClient, path: str, body: object = None, **more: Any) -> float:
    """Milliseconds until the whole response has arrived. Raises BenchError for an error status."""
    begun_s = time.perf_counter()
    answer = await (http.get(path, **more) if body is None else http.post(path, json=body, **more))
    taken_ms = 1000 * (time.perf_counter() - begun_s)
    if not answer.is_success:
        raise BenchError(f"{path}: the server answered {answer.status_code}")
    await asyncio.sleep(HTTP_PAUSE_S)
    return taken_ms


async def _join(subject: Subject) -> float:
    viewer = WhepViewer(subject.target)
    async with viewer:
        await viewer.ready(PATIENCE_S)
        if viewer.first_picture_s is None:
            raise ViewError("no frame arrived")
        return 1000 * (viewer.first_picture_s - viewer.started_s)
