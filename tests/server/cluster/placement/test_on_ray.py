"""Placement on Ray, on hosts of its own whose parts are killed: what runs goes on, what died is replaced."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from server.cluster.messages import WorkerEntry
from server.cluster.operating import ask
from tests.rigs.cluster.ray_rig import SLOW_S, Onlooker, RayCluster, ray_cluster
from tests.rigs.waiting import until

pytest.importorskip("ray", reason="the extra `cluster` is not installed")
pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(1200)]

WORKER = "server.cli worker"


def hosts(workers: dict[str, WorkerEntry]) -> list[str]:
    return sorted(worker.host for worker in workers.values())


async def gone(rig: RayCluster, name: str) -> None:
    await until(
        lambda: all(w.name != name or not w.ready for w in rig.roster.workers), f"end of {name}", SLOW_S
    )


async def test_workers_are_placed_replaced_drained_and_ended(tmp_path: Path) -> None:
    async with ray_cluster((1, 2), 2, tmp_path) as rig:
        a, b = rig.machines
        before = await rig.has(2)
        assert hosts(before) == sorted([a.address, b.address])
        assert "no store" in rig.notes
        assert len(rig.placement.notes) == 1

        (first,) = (worker for worker in before.values() if worker.host == a.address)
        a.kill(WORKER)
        await gone(rig, first.name)
        after = await rig.has(2)
        assert f"{first.name} ended: killed by SIGKILL" in rig.notes
        assert first.name not in after

        await ask("scale", rig.address, rig.key, None, workers=4)
        await until(lambda: "no GPU free on a host that may be used" in rig.notes, "lack of a GPU", SLOW_S)
        await ask("scale", rig.address, rig.key, None, workers=1)
        (last,) = (await rig.has(1)).values()
        other = a if last.host == b.address else b
        await ask("drain", rig.address, rig.key, None, last.host, SLOW_S, leave=True)
        await gone(rig, last.name)
        moved = await rig.has(1)
        assert hosts(moved) == [other.address]
        if rig.machine_of(last) is b:  # the head's host stays
            await until(lambda: not b.pids("raylet/raylet"), "end of Ray on the drained host", SLOW_S)

        await ask("down", rig.address, rig.key, None)
        await until(lambda: not a.pids(WORKER) and not b.pids(WORKER), "end of all workers", SLOW_S)


async def test_a_lost_raylet_and_a_silent_host_are_left_for_another(tmp_path: Path) -> None:
    async with ray_cluster((0, 1, 1, 1), 1, tmp_path) as rig:
        (first,) = (await rig.has(1)).values()
        lost = rig.machine_of(first)
        lost.kill("raylet/raylet")
        await gone(rig, first.name)
        (second,) = (await rig.has(1)).values()
        assert second.host != first.host
        assert not lost.pids(WORKER), "it ended with Ray, or its GPU would be used twice"
        silent = rig.machine_of(second)
        silent.cut()
        await gone(rig, second.name)
        await until(lambda: f"{second.name}: not heard for" in rig.notes, "loss of the silent one", SLOW_S)
        (third,) = (await rig.has(1)).values()
        assert third.host not in (first.host, second.host)
        silent.heal()
        await until(lambda: not silent.pids(WORKER), "end of the one that was replaced", SLOW_S)
        assert [worker.name for worker in (await rig.has(1)).values()] == [third.name]


async def test_video_plays_on_while_placer_head_and_store_are_killed(tmp_path: Path) -> None:
    async with ray_cluster((0, 1, 0), 1, tmp_path, redis=True) as rig:
        a, b, c = rig.machines
        (first,) = (await rig.has(1)).values()
        assert rig.notes == ""
        async with Onlooker(rig, first) as onlooker:
            await onlooker.sees_more()

            a.kill("cluster up")
            await onlooker.sees_more()
            rig.start_placer(1)
            assert list(await rig.has(1)) == [first.name], "the new placer knows it"

            a.kill("gcs_server")
            a.kill("raylet/raylet")
            await until(lambda: "does not answer" in rig.notes, "complaint of the placer", SLOW_S)
            await onlooker.sees_more()
            await rig.start_ray(0, 0)
            assert list(await rig.has(1)) == [first.name]

            c.kill("redis-server")
            await until(lambda: not a.pids("gcs_server"), "end of the head without its store", SLOW_S)
            await onlooker.sees_more()
            rig.start_redis()
            await rig.start_ray(0, 0)
            await until(lambda: a.pids("gcs_server"), "new head", SLOW_S)
            assert list(await rig.has(1)) == [first.name]
            await onlooker.sees_more()

        b.kill(WORKER)
        await gone(rig, first.name)
        assert first.name not in await rig.has(1), "replaced under the new head"


async def test_a_cluster_that_asks_for_no_token_is_not_used(tmp_path: Path) -> None:
    async with ray_cluster((0,), 0, tmp_path) as rig:
        (a,) = rig.machines
        a.kill("cluster up")
        a.kill("gcs_server")
        a.kill("raylet/raylet")
        told = {**rig.environment, "RAY_AUTH_MODE": "disabled"}
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        a.start("open", [*ray, f"--node-ip-address={a.address}", "--include-dashboard=false"], told)
        await until(lambda: a.pids("gcs_server"), "open head", SLOW_S)
        rig.start_placer(1)
        await until(lambda: "lets everybody in" in rig.notes, "complaint", SLOW_S)
        assert not a.pids(WORKER)
