"""What a gateway of a cluster has left in the store is another one's if it doesn't come back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import time
from pathlib import Path

import pytest

from engine.errors import UnknownSession
from engine.types import Control, Prompt
from server.gateway.storage.ownership import Ownership
from server.gateway.storage.saved import unpack
from server.gateway.storage.stores.files import FileStore
from server.storage import StorageConfig
from tests.rigs.server.directory_rig import directing
from tests.rigs.server.server_rig import join, recorded, until
from tests.server.gateway.cluster.joining import joined_gateway, joined_worker, kill
from tests.server.gateway.storage.test_outside import gateway

WAIT_S = 60.0


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("outside.EVERY_S", "outside.RETRY_S", "outside.BEAT_S", "ownership.LOOK_S"):
        monkeypatch.setattr(f"server.gateway.storage.{name}", 0.02)
    monkeypatch.setattr("server.gateway.storage.outside.SETTLE_S", 0.1)
    for name in ("ownership.STALE_S", "takeover.STALE_S"):  # a hundred beats: who lives is not that slow
        monkeypatch.setattr(f"server.gateway.storage.{name}", 2.0)
    monkeypatch.setattr("server.gateway.storage.takeover.AWAY_S", 1.0)
    monkeypatch.setattr("server.cluster.owners.VACANT_S", 0.5)


def owner(folder: Path, session: str) -> str:
    return unpack((folder / "sessions" / session).read_bytes(), 0.0).owner


async def taken_by(other: Ownership, store: FileStore) -> None:
    """The mark may change between reading and taking it."""
    for _ in range(100):
        mark = await store.get("gateways/gateway")
        assert mark is not None
        if await other.take_from(mark):
            return
    raise AssertionError


async def killed_cluster(folder: Path) -> tuple[str, str, str | None]:
    """A cluster of gateway g1 and its worker, killed at once. The id of a session that is in the store then,
    its token, and the hash of that of `main`."""
    alive = folder.with_name("alive")
    async with (
        directing() as (_, port),
        joined_worker(port, "a"),
        joined_gateway(port, "g1", storage=StorageConfig(alive.as_uri(), every_s=1.0)) as gate,
    ):
        mine = await gate.open("a dog", 5)
        token = mine.token or ""
        gate.submit(mine.id, Control("c1", Prompt("a blue dog")))
        await until(lambda: mine.answers["c1"].status == "applied", "receipt")

        def complete() -> bool:
            path = alive / "sessions" / mine.id
            return path.exists() and b"applied" in unpack(path.read_bytes(), 0.0).record

        await until(complete, "it in the store", WAIT_S)
        await until(lambda: (alive / "sessions" / "main").exists(), "main in the store", WAIT_S)
        shutil.copytree(alive, folder)
        return mine.id, token, gate.session("main").token_hash


async def test_another_gateway_goes_on_and_leads_the_one_that_comes_back_to_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = tmp_path / "kept"
    session, token, main_hash = await killed_cluster(kept)
    storage = StorageConfig(kept.as_uri(), every_s=1.0)
    async with directing() as (directory, port), joined_worker(port, "a"):  # noqa: SIM117
        async with joined_gateway(port, "g2", storage=storage) as two:
            await until(lambda: session in two.session_ids(), "the session", WAIT_S)
            back = two.session(session)
            assert back.accepts(token, time.monotonic()) == "owner"
            assert two.submit(session, Control("c1", Prompt("a blue dog"))).status == "applied"
            sent = recorded(back.fanout)
            join(back.fanout)
            await until(lambda: len(sent) > 5, "video", WAIT_S)
            await until(lambda: two.info(session).prompt == "a blue dog", "its last prompt", WAIT_S)
            await until(lambda: owner(kept, session) == "g2", "its owner in the store")
            assert not (kept / "gateways" / "g1").exists()
            assert "gateway g1 is gone: 1 of its saved sessions go on here" in caplog.text
            await until(lambda: directory.tables.roster().moved == {session: "g2"}, "word of it")
            async with joined_gateway(port, "g1", storage=storage) as one:
                await until(lambda: not one.sessions.waiting, "a look at the store", WAIT_S)
                assert session not in one.session_ids()
                await until(lambda: one.owner_of(session) == "g2", "the way there")
                assert one.owner_of("main") == "g2"
                assert two.session("main").token_hash == main_hash


async def test_what_a_gateway_that_lives_has_saved_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.gateway.storage.takeover.STALE_S", 1e9)
    kept = tmp_path / "kept"
    session, *_ = await killed_cluster(kept)
    storage = StorageConfig(kept.as_uri(), every_s=1.0)
    ownership = Ownership(FileStore(kept), "g1")  # it runs, but the directory does not know it
    assert await ownership.take_from((kept / "gateways" / "g1").read_bytes())
    async with (
        directing() as (_, port),
        joined_worker(port, "a"),
        joined_gateway(port, "g2", storage=storage) as two,
    ):
        away: list[float] = []
        known = two.peers.away_s

        def looked(name: str) -> float:
            away.append(known(name))
            return away[-1]

        two.peers.away_s = looked  # type: ignore[method-assign, assignment]
        while sum(s > 1.0 for s in away) < 20:
            assert await ownership.beat()
            await asyncio.sleep(0.02)
        assert session not in two.session_ids()
        assert owner(kept, session) == "g1"
        await ownership.release()
        await until(lambda: session in two.session_ids(), "the session, now that it has stopped", WAIT_S)


async def test_a_gateway_that_has_lost_its_name_saves_nothing_until_it_is_free(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, store = tmp_path / "sessions" / "main", FileStore(tmp_path)
    taken = b"by another gateway"
    async with gateway(tmp_path.as_uri()) as gate:
        join(gate.session("main").fanout)  # so there is always something new to save
        await until(path.exists, "main in the store", WAIT_S)
        other = Ownership(store, "gateway", by="g9")
        await taken_by(other, store)
        await until(lambda: "is another one's now: nothing is saved" in caplog.text, "word of it", WAIT_S)
        path.write_bytes(taken)
        await other.release()
        await until(lambda: "is free again: sessions are saved" in caplog.text, "word of it", WAIT_S)
        await until(lambda: path.read_bytes() != taken, "main in the store again", WAIT_S)
        await taken_by(other, store)
        again = "is another one's now: nothing is saved"
        await until(lambda: caplog.text.count(again) == 2, "word of it", WAIT_S)
        path.write_bytes(taken)
    assert path.read_bytes() == taken, "at the end neither"


async def test_main_goes_on_in_the_gateway_that_is_to_have_it(tmp_path: Path) -> None:
    storage = StorageConfig(tmp_path.as_uri(), every_s=1.0)
    async with directing() as (_, port), contextlib.AsyncExitStack() as workers:
        await workers.enter_async_context(joined_worker(port, "a"))
        async with (
            joined_gateway(port, "g1", storage=storage) as one,
            joined_gateway(port, "g2", storage=storage) as two,
        ):
            told = one.session("main").token_hash
            await until(lambda: (tmp_path / "sessions" / "main").exists(), "main in the store", WAIT_S)
            await until(lambda: two.peers.main == "g1", "word of it")
            await until(lambda: two.sessions.main_saved, "its part of that")
            with pytest.raises(UnknownSession):  # it is not one that waits for a place here
                two.session("main")
            await one._tasks.close()
            kill(one)
            await workers.aclose()
            async with joined_worker(port, "b"):
                await until(lambda: "main" in two.session_ids(), "main", WAIT_S)
                assert two.session("main").token_hash == told


async def test_a_gateway_that_starts_while_another_one_takes_over_waits_for_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.gateway.storage.ownership.STALE_S", 1e9)
    store = FileStore(tmp_path)
    first, second = Ownership(store, "g1"), Ownership(store, "g1", by="g2")
    await first.take()
    assert await second.take_from((tmp_path / "gateways" / "g1").read_bytes())
    assert not await second.take_from(b"another mark")
    assert json.loads((tmp_path / "gateways" / "g1").read_bytes())["by"] == "g2"
    assert not await first.beat(), "nothing is saved under the name meanwhile"
    starting = asyncio.create_task(Ownership(store, "g1").take())
    for _ in range(10):
        assert await second.beat()
        await asyncio.sleep(0.02)
    assert not starting.done()
    await second.release()
    await starting
