"""`psistream bench load --workers 1,2,4`: a real gateway with so many worker processes, each with a pretended
device that takes its time by sleeping. The gateway opens sessions until it refuses one; all are watched.

Viewers are subscriptions without connections: encoding, the wire and the fan-out are real, SRTP is not there.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import cpu_seconds, description
from benchmarks.report import BenchReport
from engine.backends.fake import FAKE_SPEC
from engine.config import RuntimeConfig
from engine.errors import Full
from server.config import MediaConfig, ServerConfig, WorkerConfig
from server.gateway.fleet.makers import worker_makers
from server.gateway.gateway import Gateway
from server.gateway.session import GatewaySession
from server.metrics import Metrics
from server.webrtc.fanout import Subscription
from server.worker.process import ProcessWorker

PROMPT = "a red fox walks right through a forest"
PRETENDED = (60.0, 12.0)  # milliseconds per call and per row: few sessions, so encoding is no bottleneck
SETTLE_S = 4.0
REAL_TIME = 0.98  # a session that shows at least this share of its frames plays in real time
MOST = 64  # sessions of a worker, whatever its device could serve


class FrameCount:
    """Subscribes to a session and counts its frames."""

    def __init__(self, session: GatewaySession) -> None:
        self.frames = 0
        session.fanout.join(Subscription("vp8", self._deliver))

    def _deliver(self, frame: object) -> bool:
        self.frames += 1
        return True


async def play_fleet(config: ServerConfig, seconds: float, settle_s: float = SETTLE_S) -> dict[str, Any]:
    """One row of the table. Raises PsistreamError if the workers do not start."""
    async with Gateway(config, worker_makers(config), Metrics()) as gateway:
        counts = [FrameCount(session) for session in gateway.sessions]
        while len(counts) < config.workers * MOST:
            try:
                counts.append(FrameCount(await gateway.open(PROMPT, len(counts))))
            except Full:
                break
        await asyncio.sleep(settle_s)
        pids = [w.worker.pid for w in gateway.fleet if isinstance(w.worker, ProcessWorker)]
        before = [count.frames for count in counts]
        start_s, own_s, theirs_s = time.monotonic(), time.process_time(), _cpu_s(pids)
        await asyncio.sleep(seconds)
        span_s, own_s = time.monotonic() - start_s, time.process_time() - own_s
        theirs_s = _cpu_s(pids) - theirs_s
        fps = gateway.ready.fps if gateway.ready else FAKE_SPEC.fps
        shares = [(c.frames - b) / (span_s * fps) for c, b in zip(counts, before, strict=True)]
    return {
        "workers": config.workers,
        "sessions": len(counts),
        "in real time": sum(share >= REAL_TIME for share in shares),
        "frames shown %": round(100 * sum(shares) / len(shares), 1),
        "gateway ms/s per session": round(1000 * own_s / span_s / len(counts), 2),
        "worker ms/s per session": round(1000 * theirs_s / span_s / len(counts), 2),
    }


def _cpu_s(pids: Sequence[int | None]) -> float:
    return sum(cpu_seconds(pid) or 0.0 for pid in pids if pid is not None)


def measure(workers: Sequence[int], pretended: tuple[float, float] | None, seconds: float) -> BenchReport:
    """`pretended` are milliseconds per call and per row. Raises PsistreamError."""
    call_ms, row_ms = pretended or PRETENDED
    settings = {"pretended ms": f"{call_ms:g} per call, {row_ms:g} per row", "seconds each": seconds}
    report = BenchReport("load", description(), settings)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="psistream-bench-") as folder:
        cost = (call_ms / 1000, row_ms / 1000)
        roles = (*FAKE_SPEC.denoise_roles, "decode", "memorize")
        Path(folder, "fake.json").write_text(json.dumps({"costs": dict.fromkeys(roles, cost)}), "utf-8")
        worker = WorkerConfig(
            backend="fake",
            model=folder,
            runtime=RuntimeConfig(max_sessions=MOST),
            media=MediaConfig(codecs=("vp8",)),
        )
        for count in workers:
            config = ServerConfig(worker=worker, workers=count, mqtt="off", spare="off")
            rows.append(asyncio.run(play_fleet(config, seconds)))
    report.tables["sessions of a gateway"] = rows
    one, first = report.singles, rows[0]
    for row in rows[1:]:
        if first["in real time"]:
            each = row["in real time"] / row["workers"] / (first["in real time"] / first["workers"])
            name = f"real-time sessions per worker, {row['workers']} to {first['workers']}"
            one[name] = (round(each, 3), "×")
    report.notes.append(
        f"In real time: at least {100 * REAL_TIME:g} % of the frames shown. Devices sleep, so only "
        "encoding and the gateway need processor time. Viewers have no connections."
    )
    return report
