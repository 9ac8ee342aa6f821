"""A worker is killed, its sessions crowd together, the worker comes back, and they spread again: with real
processes, whose devices take their time by sleeping."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from engine.backends.fake import FAKE_SPEC
from engine.config import RuntimeConfig
from server.config import MediaConfig, WorkerConfig
from server.gateway.fleet.makers import worker_makers
from server.gateway.gateway import Gateway
from server.metrics import Metrics
from server.worker.messages.events import Packet
from server.worker.process import ProcessWorker
from tests.rigs.server.server_rig import config, join, recorded, until
from tests.server.gateway.guests.gateways import gateways

ROW_S = 0.045  # of each call: 0.18 s for a segment of 0.5 s, so two sessions play in real time
MAX_LOAD = 4.0  # more are admitted, however slow this machine is, and play in slow motion
LONG_S = 120.0


def slow_worker(folder: Path) -> WorkerConfig:
    """It plays two sessions in real time."""
    roles = dict.fromkeys((*FAKE_SPEC.denoise_roles, "decode", "memorize"), (0.0, ROW_S))
    (folder / "fake.json").write_text(json.dumps({"costs": roles}))
    runtime = RuntimeConfig(max_sessions=8, max_load=MAX_LOAD, idle_grace_s=0.2)
    media = MediaConfig(codecs=("vp8",))
    return WorkerConfig(backend="fake", model=str(folder), runtime=runtime, media=media)


async def play_on(sent: dict[str, list[Packet]], frames: int = 24) -> None:
    """Every session shows so many more frames."""
    last = {name: packets[-1].frame for name, packets in sent.items()}
    await until(lambda: all(p[-1].frame > last[n] + frames for n, p in sent.items()), "video", LONG_S)


def not_once(sent: dict[str, list[Packet]]) -> list[tuple[str, Packet, Packet]]:
    """Neighbours of which the second one shows the same frame again, or an earlier one or time. A picture
    that stands still may be repeated as a keyframe."""
    small = {name: [replace(packet, data=b"") for packet in packets] for name, packets in sent.items()}
    pairs = [(name, a, b) for name, packets in small.items() for a, b in pairwise(packets)]
    return [(name, a, b) for name, a, b in pairs if a.pts_90k >= b.pts_90k or a.frame >= b.frame + b.keyframe]


@pytest.mark.slow
async def test_sessions_that_crowd_after_a_failover_spread_once_the_worker_is_back(tmp_path: Path) -> None:
    worker = slow_worker(tmp_path)
    settings = config(workers=2, worker=worker, placement="process", spare="off")
    async with Gateway(settings, worker_makers(settings), Metrics()) as gate:
        sessions = [gate.session("main"), *[await gate.open("a dog", n) for n in range(3)]]
        viewers = {session.id: join(session.fanout) for session in sessions}
        assert gate.sessions.count("w2") > 0
        await until(lambda: all(s.stats and s.stats.segment >= 2 for s in sessions), "video", LONG_S)
        for session in sessions:
            session.fanout.leave(viewers[session.id])
        await until(lambda: all(s.asleep for s in sessions), "sleep")
        victim = gate.fleet.named("w2").worker
        assert isinstance(victim, ProcessWorker)
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGKILL)
        await until(lambda: gate.sessions.count("w1") == 4, "failover", LONG_S)
        for session in sessions:
            join(session.fanout)
        sent = {session.id: recorded(session.fanout) for session in sessions}
        await until(lambda: all(sent.values()), "first pictures", LONG_S)
        await until(lambda: any(s.stats and s.stats.rate < 1.0 for s in sessions), "slow motion", LONG_S)
        await play_on(sent)
        for packets in sent.values():
            packets.clear()  # whoever joined was sent the still picture
        await until(lambda: gate.sessions.count("w2") == 2, "spreading", LONG_S)
        await until(lambda: all(sent.values()), "pictures", LONG_S)
        await play_on(sent)
        assert [gate.sessions.count(name) for name in ("w1", "w2")] == [2, 2], "and nothing moved back"
        value = gate.metrics.registry.get_sample_value
        assert value("psistream_sessions_moved_total", {"reason": "balance"}) == 2
    assert not_once(sent) == []


@pytest.mark.slow
async def test_several_gateways_fill_a_new_worker_and_then_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.rigs.server.port_rig.FAKE", slow_worker(tmp_path))
    async with gateways(2, workers=2) as (gates, _):
        for gate in gates:
            gate.fleet.named("w2").draining = True
        sessions = [await gate.open("a dog", n) for n in range(2) for gate in gates]
        sent = {session.id: recorded(session.fanout) for session in sessions}
        for session in sessions:
            join(session.fanout)
        assert {session.worker for session in sessions} == {"w1"}
        await until(lambda: any(s.stats and s.stats.rate < 1.0 for s in sessions), "slow motion", LONG_S)
        await play_on(sent)
        for packets in sent.values():
            packets.clear()  # whoever joined was sent the still picture
        for gate in gates:
            gate.fleet.named("w2").draining = False
        await until(lambda: sum(s.worker == "w2" for s in sessions) >= 2, "spreading", LONG_S)
        await until(lambda: all(sent.values()), "pictures", LONG_S)
        await play_on(sent, 80)
        assert sum(s.worker == "w2" for s in sessions) in (2, 3), (
            "both may have moved their second one at once"
        )
        read = [gate.metrics.registry.get_sample_value for gate in gates]
        assert sum(value("psistream_sessions_moved_total", {"reason": "balance"}) or 0 for value in read) <= 4
    assert not_once(sent) == []
