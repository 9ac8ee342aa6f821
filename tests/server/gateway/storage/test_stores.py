"""Every store keeps, replaces, lists, swaps and forgets alike.

S3's code runs with a server of S3 (test_s3.py has more of it), and with obstore's stores in memory and files.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from obstore.store import LocalStore, MemoryStore

from benchmarks.network.ports import free_port
from engine.errors import InvalidInput, Unavailable
from server.gateway.storage.stores.base import SessionStore, StoreFailed
from server.gateway.storage.stores.files import FileStore
from server.gateway.storage.stores.objects import ObjectsStore, s3_store
from server.gateway.storage.stores.open import open_store
from server.gateway.storage.stores.redis import RedisStore
from server.storage import StorageConfig
from tests.rigs.storage.redis_rig import Redis, need_redis
from tests.rigs.storage.s3_rig import S3


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    need_redis()
    with Redis() as server:
        yield server


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with S3() as server:
        yield server


@pytest.fixture(params=["file", "redis", "s3", "objects", "objects-in-files"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[SessionStore]:
    found: SessionStore
    match request.param:
        case "file":
            found = FileStore(tmp_path / "kept")
        case "redis":
            found = RedisStore(StorageConfig(request.getfixturevalue("redis").url))
            await found._redis.flushdb()
        case "s3":
            for name, value in request.getfixturevalue("s3").account().items():
                monkeypatch.setenv(name, value)
            found = s3_store(StorageConfig(f"s3://bucket/{request.node.originalname}"))
        case "objects":
            found = ObjectsStore(MemoryStore(), "memory")
        case _:
            found = ObjectsStore(LocalStore(tmp_path / "kept", mkdir=True), "memory")
    yield found
    await found.close()


async def test_what_is_put_comes_back_until_it_is_deleted(store: SessionStore) -> None:
    assert await store.get("sessions/a") is None
    assert await store.names("sessions") == []
    data = os.urandom(600_000)
    await store.put("sessions/a", b"old")
    await store.put("sessions/a", data)
    await store.put("sessions/b-2_X", b"b")
    await store.put("gateways/g1", b"g")
    assert await store.get("sessions/a") == data
    assert await store.names("sessions") == ["a", "b-2_X"]
    assert await store.names("gateways") == ["g1"]
    for _ in range(2):
        await store.delete("sessions/a")
    assert await store.get("sessions/a") is None
    assert await store.names("sessions") == ["b-2_X"]


# obstore cannot replace a file conditionally
@pytest.mark.parametrize("store", ["file", "redis", "s3", "objects"], indirect=True)
async def test_of_many_who_swap_one_wins(store: SessionStore) -> None:
    for old, new in ((None, "x"), (b"x3", "y")):
        if old:
            assert await store.swap("gateways/g", await store.get("gateways/g"), old)
        won = await asyncio.gather(*(store.swap("gateways/g", old, f"{new}{n}".encode()) for n in range(12)))
        assert sum(won) == 1
        assert await store.get("gateways/g") == f"{new}{won.index(True)}".encode()
    assert not await store.swap("gateways/other", b"x", b"y")


async def test_old_sessions_are_forgotten(store: SessionStore) -> None:
    await store.put("sessions/a", b"a")
    await store.expire(3600)
    assert await store.names("sessions") == ["a"]
    if isinstance(store, RedisStore):
        assert 86000 < await store._redis.ttl("psistream:sessions/a") <= 86400
        return
    end_s = time.monotonic() + 60
    while await store.names("sessions"):
        assert time.monotonic() < end_s
        await store.expire(0.0)
        await asyncio.sleep(0.05)


async def test_files_are_for_their_owner_alone_and_parts_of_files_are_no_sessions(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "kept"
    store = FileStore(folder)
    await store.put("sessions/a", b"a")
    await store.swap("gateways/g", None, b"g")
    for path in folder.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "sessions" / "b.new").write_bytes(b"half")
    assert await store.names("sessions") == ["a"]
    await store.put("sessions/b", b"whole")
    assert await store.names("sessions") == ["a", "b"]
    assert not (folder / "sessions" / "b.new").exists()


async def test_what_a_full_disk_does_not_take_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = FileStore(tmp_path)
    await store.put("sessions/a", b"a")
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        for name in ("sessions/a", "sessions/b"):
            with pytest.raises(StoreFailed, match="No space left on device"):
                await store.put(name, b"more")
    assert [path.name for path in (tmp_path / "sessions").iterdir()] == ["a"]
    assert await store.get("sessions/a") == b"a"


async def test_a_store_that_is_away_says_so_without_its_password(tmp_path: Path) -> None:
    away = RedisStore(StorageConfig(f"redis://:hidden@127.0.0.1:{free_port()}/0"))
    with pytest.raises(StoreFailed, match=r"redis://127\.0\.0\.1:\d+/0: ") as error:
        await away.get("sessions/a")
    assert "hidden" not in error.value.message
    await away.close()
    (tmp_path / "file").touch()
    with pytest.raises(StoreFailed, match="File exists"):
        await FileStore(tmp_path / "file").put("sessions/a", b"a")


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("ftp://x/y", "does not know ftp"),
        ("/var/lib", "does not know a URL without a scheme"),
        ("file://relative/x", "absolute folder"),
        ("file:///", "absolute folder"),
        ("redis://", "needs a host"),
        ("redis://h:0/1", "needs a host"),
        ("redis://h:x/1", "valid port"),
        ("redis://h/one", "number of the database"),
        ("s3://B_/x", "needs a bucket"),
    ],
)
def test_urls_that_name_no_store(url: str, text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        StorageConfig(url)


def test_other_numbers_are_refused_and_passwords_not_shown() -> None:
    with pytest.raises(InvalidInput, match="--snapshots-every must be"):
        StorageConfig("file:///x", every_s=0.0)
    with pytest.raises(InvalidInput, match="--snapshots-keep must be"):
        StorageConfig("file:///x", keep_h=float("nan"))
    config = StorageConfig("rediss://user:secret@host:1/2")
    assert config.shown == "rediss://host:1/2"
    assert "secret" not in repr(config)


async def test_the_scheme_decides_which_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert isinstance(open_store(StorageConfig(f"file://{tmp_path}/a%20b")), FileStore)
    monkeypatch.setitem(__import__("sys").modules, "redis", None)
    with pytest.raises(Unavailable, match=r"pip install 'psistream\[snapshots\]'"):
        open_store(StorageConfig("redis://h/0"))
