"""What is wrong with one thing in the store costs that one: the others are listed, saved, resumed and
forgotten."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from server.access.tokens import hash_of
from server.cluster.checks import check_report
from server.cluster.messages import GatewayReport
from server.gateway.records.record import read_record
from server.gateway.storage.saved import pack, unpack
from server.gateway.storage.stores.base import StoreFailed
from server.gateway.storage.stores.files import FileStore
from server.gateway.storage.stores.redis import RedisStore
from server.storage import StorageConfig
from tests.rigs.server.server_rig import until
from tests.rigs.storage.redis_rig import Redis, need_redis
from tests.server.gateway.storage.test_outside import gateway


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("outside.EVERY_S", "outside.RETRY_S"):
        monkeypatch.setattr(f"server.gateway.storage.{name}", 0.02)


async def left(folder: Path, number: int) -> list[str]:
    """The ids of sessions that a gateway has saved there before it ended."""
    async with gateway(folder.as_uri()) as gate:
        return sorted([(await gate.open("a dog")).id for _ in range(number)])


async def test_what_is_no_file_of_a_session_is_left_alone(tmp_path: Path) -> None:
    """A folder such as lost+found, once it was a day old, kept the server from starting."""
    store = FileStore(tmp_path)
    await store.put("sessions/a", b"a")
    for odd in ("lost+found", "folder"):
        (tmp_path / "sessions" / odd).mkdir()
        os.utime(tmp_path / "sessions" / odd, (0, 0))
    others = tmp_path / "sessions" / "notes.txt"
    others.write_text("somebody else's")
    os.utime(others, (0, 0))
    assert await store.names("sessions") == ["a"]
    await store.expire(3600)
    assert others.exists()
    await store.expire(-3600)
    assert await store.names("sessions") == []


async def test_a_key_that_is_no_text_hides_no_sessions() -> None:
    need_redis()
    with Redis() as redis:
        store = RedisStore(StorageConfig(redis.url))
        await store.put("sessions/a", b"a")
        await store._redis.set(b"psistream:sessions/\xff\xfe", b"x")
        assert await store.names("sessions") == ["a"]
        await store.close()


async def test_the_others_are_resumed_if_one_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None came back whose name is after it."""
    first, second = await left(tmp_path, 2)
    read = FileStore._read

    def refuse(store: FileStore, name: str) -> bytes | None:
        if name.endswith(first):
            raise PermissionError(13, "Permission denied")
        return read(store, name)

    monkeypatch.setattr(FileStore, "_read", refuse)
    async with gateway(tmp_path.as_uri()) as gate:
        await until(lambda: second in gate.session_ids(), "the other session")
        assert first not in gate.session_ids()
        monkeypatch.setattr(FileStore, "_read", read)
        await until(lambda: first in gate.session_ids(), "it, once it can be read")


@pytest.mark.parametrize("print_", ["../../etc/x", "a b/c", ""])
async def test_a_saved_main_of_another_model_with_an_odd_name_ends_nothing(
    print_: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its fingerprint became part of a file's name, and that ended all saving and resuming."""
    (mine,) = await left(tmp_path, 1)
    path = tmp_path / "sessions" / "main"
    saved = replace(unpack(path.read_bytes(), 0.0), fingerprint=print_)
    path.write_bytes(pack(saved, 0.0))
    async with gateway(tmp_path.as_uri()) as gate:
        await until(lambda: mine in gate.session_ids(), "the other session")
        await until(lambda: "main" in gate.session_ids(), "a new main")
        file = tmp_path / "sessions" / mine
        file.unlink()
        gate.session(mine).recovery.changed = True
        gate.session(mine).info = replace(gate.session(mine).info, paused=True)
        await until(file.exists, "the next save")
    assert not [r for r in caplog.records if r.exc_info]


async def test_the_others_are_saved_if_one_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(FileStore):
        async def put(self, name: str, data: bytes) -> None:
            if name == "sessions/main":
                raise AssertionError(name)
            await super().put(name, data)

    monkeypatch.setattr("server.gateway.storage.outside.open_store", lambda config: Odd(tmp_path))
    async with gateway(tmp_path.as_uri()) as gate:
        for _ in range(2):  # also after that
            mine = await gate.open("a dog")
            await until((tmp_path / "sessions" / mine.id).exists, "a saved session")


@pytest.mark.parametrize("client", ["x" * 200, "a\nb", "\x1b[2J", "", 5, ["a"]])
def test_a_record_names_no_client_that_the_directory_would_refuse(client: object) -> None:
    """Every report of the gateway that resumed it was refused then, so it was out of its cluster."""
    record = {"version": 1, "token_hash": hash_of("a"), "view_token_hash": hash_of("b"), "client": client}
    known = read_record(json.dumps(record).encode())
    assert known.client is None
    assert known.hashes
    check_report(GatewayReport(open={"2001:db8::/64": 1}))


async def test_a_store_that_is_away_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = await left(tmp_path, 2)
    get = FileStore.get

    async def away(store: FileStore, name: str) -> bytes | None:
        if name.startswith("sessions/"):
            raise StoreFailed("away")
        return await get(store, name)

    monkeypatch.setattr(FileStore, "get", away)
    async with gateway(tmp_path.as_uri()) as gate:
        await asyncio.sleep(0.2)
        monkeypatch.setattr(FileStore, "get", get)
        await until(lambda: {first, second} <= set(gate.session_ids()), "both")
