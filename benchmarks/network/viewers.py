"""`python -m benchmarks.network.viewers [1,10,60,200]`: what a viewer costs the gateway, and how late its
event loop runs.

The viewers run aiortc in their own process, with transport-wide feedback and without decoding. Prints a table
and a line of JSON. Needs no root. "packets" are those that each viewer received per second: about 110 on the
top rung. If there are fewer, the machine was too busy for the viewers, and they cost less.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from benchmarks.network.__main__ import busy
from benchmarks.server.subject import own_server
from clients.adapter.feedback import Feedback, with_feedback
from clients.adapter.receiver import count_packets

SECONDS = 15.0
LAG_EVERY_S = 0.5
AT_ONCE = 4  # viewers that join at the same time
TICKS = os.sysconf("SC_CLK_TCK")


async def join(base: str, counted: list[int]) -> tuple[RTCPeerConnection, asyncio.Task[None]]:
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    receiver = pc.addTransceiver("video", direction="recvonly").receiver
    feedback = asyncio.create_task(Feedback(receiver).run(), name="feedback")

    def count() -> None:
        counted[0] += 1

    count_packets(receiver, count)
    await pc.setLocalDescription(await pc.createOffer())
    offer = with_feedback(pc.localDescription.sdp)
    async with httpx.AsyncClient(timeout=30.0) as http:
        while True:
            headers = {"Content-Type": "application/sdp"}
            answer = await http.post(f"{base}v1/sessions/main/whep", content=offer, headers=headers)
            if answer.status_code != 429:
                break
            await asyncio.sleep(1.0)
    answer.raise_for_status()
    await pc.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
    return pc, feedback


async def crowd(base: str, count: int) -> None:
    """Watch with `count` viewers until standard input ends, then print how many packets arrived."""
    counted = [0]
    viewers: list[tuple[RTCPeerConnection, asyncio.Task[None]]] = []
    for start in range(0, count, AT_ONCE):
        number = min(AT_ONCE, count - start)
        viewers += await asyncio.gather(*(join(base, counted) for _ in range(number)))
    print("ready", flush=True)
    started_s, counted[0] = time.monotonic(), 0
    await asyncio.to_thread(sys.stdin.read)
    print(counted[0] / count / (time.monotonic() - started_s), flush=True)
    for _, task in viewers:
        task.cancel()
    ended = await asyncio.gather(*(task for _, task in viewers), return_exceptions=True)
    await asyncio.gather(*(pc.close() for pc, _ in viewers))
    for error in ended:
        if isinstance(error, Exception):  # a viewer without feedback would falsify the figures
            raise error


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measure(base: str, pid: int, count: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.network.viewers", "--crowd", base, str(count)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as watching:
        assert watching.stdout is not None
        watching.stdout.readline()
        time.sleep(3.0)
        before_s, started_s, lags = cpu_s(pid), time.monotonic(), []
        while time.monotonic() - started_s < SECONDS:
            time.sleep(LAG_EVERY_S)
            for line in httpx.get(f"{base}metrics", timeout=10).text.splitlines():
                if line.startswith("psistream_event_loop_lag_seconds "):
                    lags.append(1000 * float(line.rpartition(" ")[2]))
        took_s = time.monotonic() - started_s
        used_ms = 1000 * (cpu_s(pid) - before_s) / took_s
        packets, _ = watching.communicate("")
    lags.sort()
    return {
        "viewers": count,
        "cpu_ms": used_ms,
        "lag_p50": lags[len(lags) // 2],
        "lag_max": lags[-1],
        "packets": float(packets),
    }


def main() -> int:
    if sys.argv[1:2] == ["--crowd"]:
        asyncio.run(crowd(sys.argv[2], int(sys.argv[3])))
        return 0
    counts = [int(n) for n in (sys.argv[1] if len(sys.argv) > 1 else "1,10,60,200").split(",")]
    results: list[dict[str, float]] = []
    with busy() as model, own_server(["--backend", "fake", "--model", model]) as subject:
        assert subject.pid is not None
        print(f"{'viewers':>8}{'CPU ms/s':>10}{'per viewer':>12}{'lag p50':>9}{'lag max':>9}{'packets':>9}")
        for count in counts:
            r = measure(subject.target.base, subject.pid, count)
            first = results[0] if results else r
            more = max(1, count - first["viewers"])
            r["per_viewer_ms"] = (r["cpu_ms"] - first["cpu_ms"]) / more if results else r["cpu_ms"]
            results.append(r)
            row = f"{count:>8}{r['cpu_ms']:>10.0f}{r['per_viewer_ms']:>12.2f}"
            row += f"{r['lag_p50']:>9.1f}{r['lag_max']:>9.1f}"
            print(f"{row}{r['packets']:>9.0f}", flush=True)
    print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
