"""Sessions that outlive gateway and workers: saved, resumed, waiting, refused."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine.config import RuntimeConfig
from engine.errors import Full, Unavailable, UnknownSession
from engine.types import Control, Pause, Prompt, Receipt
from server.gateway.gateway import Gateway
from server.gateway.records.record import read_record, record_of
from server.gateway.storage.saved import pack, unpack
from server.metrics import Metrics
from server.storage import StorageConfig
from server.worker.messages.events import SegmentStats
from server.worker.thread import InProcessWorker
from tests.rigs.server.fake_device import FAKE
from tests.rigs.server.port_rig import listening, remote, vanish
from tests.rigs.server.server_rig import config, join, live, recorded, until

KEY = "0123456789abcdeffedcba9876543210"


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gateway.storage.outside.EVERY_S", 0.01)
    monkeypatch.setattr("server.gateway.storage.outside.RETRY_S", 0.05)
    monkeypatch.setattr("server.gateway.storage.ownership.LOOK_S", 0.01)
    monkeypatch.setattr("server.gateway.storage.ownership.STALE_S", 0.05)


@asynccontextmanager
async def gateway(url: str, every_s: float = 1.0, **changes: Any) -> AsyncIterator[Gateway]:
    settings = config(host="192.0.2.1", api_key=KEY, storage=StorageConfig(url, every_s=every_s), **changes)

    async with Gateway(settings, partial(InProcessWorker, settings.worker), Metrics()) as gate:
        yield gate


def saved_by(folder: Path) -> set[str]:
    return {path.name for path in (folder / "sessions").glob("*")} if folder.exists() else set()


def contents(folder: Path, session: str) -> Any:
    try:
        return unpack((folder / "sessions" / session).read_bytes(), 0.0)
    except FileNotFoundError:
        return None


async def test_after_gateway_and_worker_are_gone_the_next_one_goes_on(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    async with gateway(before.as_uri()) as gate:
        mine = await gate.open("a dog", 5, client="192.0.2.9")
        tokens, main_hash = (mine.token or "", mine.view_token or ""), gate.session("main").token_hash
        _, link = mine.links.make("driver", 600.0, time.monotonic())
        sent = recorded(mine.fanout)
        join(mine.fanout)
        gate.submit(mine.id, Control("c1", Prompt("a blue dog")))
        await until(lambda: mine.answers["c1"].status == "applied", "receipt")
        await until(lambda: len(sent) > 10, "video")

        def complete() -> bool:
            found = contents(before, mine.id)
            return found is not None and b"applied" in found.record and found.opening.snapshot is not None

        await until(complete, "its state in the store", 30.0)
        assert "main" in saved_by(before)
        shutil.copytree(before, after)  # as if both had been killed now
        gate.submit(mine.id, Control("c9", Prompt("a yellow dog")))  # too late
        await until(lambda: mine.answers["c9"].status == "applied", "receipt")
        lost_frame = mine.answers["c9"].frame
        last = sent[-1]
    path = after / "sessions" / mine.id
    saved = contents(after, mine.id)
    waits = Control("c5", Prompt("a green dog"))  # sent, and not applied yet when it was saved
    path.write_bytes(pack(replace(saved, controls=(*saved.controls, waits)), 0.0))
    for secret in (*tokens, link):
        assert secret.encode() not in (after / "sessions" / mine.id).read_bytes()

    async with gateway(after.as_uri()) as gate:
        played: list[SegmentStats] = []
        gate.listen(lambda event: played.append(event) if isinstance(event, SegmentStats) else None)
        told: list[Receipt] = []
        gate.listen(lambda event: told.append(event) if isinstance(event, Receipt) else None)
        await until(lambda: mine.id in gate.session_ids(), "the session")
        assert sorted(gate.session_ids()) == sorted(["main", mine.id])
        back, now_s = gate.session(mine.id), time.monotonic()
        assert [back.accepts(token, now_s) for token in (*tokens, link, "", "x")] == [
            "owner",
            "viewer",
            "driver",
            None,
            None,
        ]
        assert gate.session("main").token_hash == main_hash
        assert back.client == "192.0.2.9"
        assert gate.submit(mine.id, Control("c1", Prompt("a blue dog"))).status == "applied"
        await until(lambda: gate.info(mine.id).prompt == "a green dog", "its latest prompt")
        assert gate.submit(mine.id, waits).status != "rejected"
        first_lost, first_after = gate.info(mine.id).lost_frames
        assert lost_frame is not None
        assert first_lost <= lost_frame < first_after
        assert read_record(record_of(back, gate.sessions.budgets, 1e9, 0.0)).lost_frames == (
            first_lost,
            first_after,
        )
        await asyncio.sleep(0.3)
        assert not played, "nobody watches, so nothing is generated"
        again = recorded(back.fanout)
        join(back.fanout)
        await until(lambda: len(again) > 10, "video", 30.0)
        assert again[0].keyframe
        assert again[0].frame >= first_after
        await until(lambda: "c5" in back.answers and back.answers["c5"].status == "applied", "its receipt")
        assert gate.submit(mine.id, Control("c9", Prompt("a yellow dog"))).status == "received"
        await until(lambda: back.answers["c9"].status == "applied", "receipt")
        assert (back.answers["c9"].frame or 0) >= first_after
        await until(lambda: gate.info(mine.id).prompt == "a yellow dog", "its effect")
        final = [receipt.id for receipt in told if receipt.status == "applied" and receipt.id != "c1"]
        assert final == ["c5", "c9"], "each is answered once"
        assert again[0].frame > last.frame
        assert again[0].segment > last.segment
        assert again[0].pts_90k > last.pts_90k
        gate.submit(mine.id, Control("c2", Prompt("a red dog")))
        await until(lambda: back.answers["c2"].status == "applied", "receipt")


async def test_an_orderly_stop_keeps_sessions_and_a_session_that_has_ended_is_deleted(tmp_path: Path) -> None:
    async with gateway(tmp_path.as_uri()) as gate:
        kept, closed = await gate.open("a dog"), await gate.open("a cat")
        await until(lambda: {kept.id, closed.id} <= saved_by(tmp_path), "both in the store")
        await gate.close_session(closed.id)
        await until(lambda: closed.id not in saved_by(tmp_path), "its end there")
        gate.submit(kept.id, Control("p", Pause()))
        await until(lambda: gate.info(kept.id).paused, "pause")
    assert saved_by(tmp_path) == {"main", kept.id}
    async with gateway(tmp_path.as_uri()) as gate:
        await until(lambda: len(gate.session_ids()) == 2, "both")
        await until(lambda: gate.info(kept.id).paused, "pause")
        with pytest.raises(UnknownSession):
            gate.session(closed.id)


async def test_what_does_not_fit_waits_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with gateway(tmp_path.as_uri()) as gate:
        mine = [(await gate.open("a dog")).id for _ in range(2)]
        await until(lambda: set(mine) <= saved_by(tmp_path), "all in the store")
    small = replace(FAKE, runtime=replace(FAKE.runtime, max_sessions=2))
    async with gateway(tmp_path.as_uri(), worker=small) as gate:
        await until(lambda: len(gate.session_ids()) == 2, "two of three")
        (waits,) = {*mine} - {*gate.session_ids()}
        with pytest.raises(Full, match="waits for a free place"):
            gate.session(waits)
        await until(lambda: "1 saved sessions wait for a place" in caplog.text, "a word about it")
        assert waits in saved_by(tmp_path)
        await gate.close_session(next(iter({*mine} - {waits})))
        await until(lambda: waits in gate.session_ids(), "its turn")
        assert not gate.sessions.waiting


async def test_what_another_model_or_gateway_saved_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    large = replace(FAKE, runtime=replace(FAKE.runtime, max_sessions=8))
    async with gateway(tmp_path.as_uri(), worker=large) as gate:
        names = [(await gate.open("a dog")).id for _ in range(3)]
        await until(lambda: set(names) <= saved_by(tmp_path), "all in the store")
    other, foreign, broken = names
    for name, change in (
        (other, {"fingerprint": "feedfacefeedface"}),
        ("main", {"fingerprint": "feedfacefeedface"}),
        (foreign, {"owner": "g7"}),
    ):
        path = tmp_path / "sessions" / name
        path.write_bytes(pack(replace(contents(tmp_path, name), **change), 0.0))
    path = tmp_path / "sessions" / broken
    path.write_bytes(path.read_bytes()[:-5])
    old = {name: (tmp_path / "sessions" / name).read_bytes() for name in ("main", *names)}
    async with gateway(tmp_path.as_uri()) as gate:
        await until(lambda: not gate.sessions.waiting, "a look at each")
        assert gate.session_ids() == ["main"]
        await until(lambda: contents(tmp_path, "main").fingerprint != "feedfacefeedface", "the new main")
    assert f"saved session {other} is of model" in caplog.text
    assert "feedfacefeed" in caplog.text
    assert f"saved session {broken} is not resumed: it is not as it was written" in caplog.text
    for name in names:
        assert (tmp_path / "sessions" / name).read_bytes() == old[name]
    assert (tmp_path / "sessions" / "main-feedface").read_bytes() == old["main"]


async def test_two_gateways_do_not_share_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gateway.storage.outside.BEAT_S", 0.02)
    monkeypatch.setattr("server.gateway.storage.ownership.STALE_S", 1e9)
    async with gateway(tmp_path.as_uri()):
        with pytest.raises(Unavailable, match="another gateway called 'gateway'"):
            async with gateway(tmp_path.as_uri()):
                raise AssertionError
        async with gateway(tmp_path.as_uri(), name="g2"):
            pass


async def test_who_asks_for_a_session_that_waits_is_told_to_come_back(tmp_path: Path) -> None:
    settings = config(api_key=KEY, storage=StorageConfig(tmp_path.as_uri(), every_s=1.0))
    async with live(settings) as server:
        made = await server.http.post(
            "/v1/sessions", json={"prompt": "x"}, headers={"Authorization": f"Bearer {KEY}"}
        )
        name = made.json()["id"]
        await until(lambda: name in saved_by(tmp_path), "it in the store")
    one = replace(FAKE, runtime=RuntimeConfig(max_sessions=1))
    async with live(replace(settings, worker=one)) as server:
        headers = {"Authorization": f"Bearer {made.json()['token']}"}
        answer = await server.http.get(f"/v1/sessions/{name}", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (503, "full")
        assert int(answer.headers["Retry-After"]) >= 1
        await until(lambda: server.services.metrics.waiting._value.get() == 1, "the metric")


async def test_what_a_worker_still_runs_is_taken_from_it_and_not_from_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker has the newest state. Without it, the store's is used."""
    monkeypatch.setattr("server.gateway.storage.outside.SETTLE_S", 0.2)
    settings = config(
        placement="remote", host="192.0.2.1", api_key=KEY, storage=StorageConfig(tmp_path.as_uri(), 1.0)
    )
    async with listening() as (host, port):  # noqa: SIM117
        async with Gateway(settings, [partial(remote, port)], Metrics()) as first:
            mine = await first.open("a dog", 5)
            token = mine.token or ""
            await until(lambda: {mine.id, "main"} <= saved_by(tmp_path), "both in the store")
            vanish(first)
            lease = host.mail.leases.get(mine.id)
            assert lease is not None
            await until(lambda: lease.owner is None, "end of the connection")
            async with Gateway(settings, [partial(remote, port)], Metrics()) as second:
                await until(lambda: not second.sessions.waiting, "a look at the store")
                assert sorted(second.session_ids()) == sorted(["main", mine.id])
                assert not second.session(mine.id).dormant
                assert lease.epoch == 2
    async with listening() as (_, port), Gateway(settings, [partial(remote, port)], Metrics()) as third:
        await until(lambda: len(third.session_ids()) == 2, "both from the store")
        assert third.session(mine.id).dormant
        assert third.session(mine.id).accepts(token, time.monotonic()) == "owner"
