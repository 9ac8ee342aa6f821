"""One gateway at a time has a name in a store; what is left of a dead one is taken over."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import Unavailable
from server.gateway.storage.ownership import NOBODY, Ownership, has_ended, this_process
from server.gateway.storage.stores.files import FileStore


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gateway.storage.ownership.LOOK_S", 0.01)
    monkeypatch.setattr("server.gateway.storage.ownership.STALE_S", 0.05)


async def test_a_name_that_is_in_use_is_refused_by_name(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.gateway.storage.ownership.STALE_S", 1e9)
    first, second = Ownership(store, "g1"), Ownership(store, "g1")
    await first.take()
    beats = 0
    get = store.get

    async def beating(name: str) -> bytes | None:
        nonlocal beats
        beats += 1
        if beats == 3:
            assert await first.beat()
        return await get(name)

    monkeypatch.setattr(store, "get", beating)
    with pytest.raises(Unavailable, match="another gateway called 'g1'"):
        await second.take()
    assert await first.beat()
    await Ownership(store, "g2").take()


async def test_a_name_whose_mark_stands_still_is_taken_over_and_its_owner_learns_of_it(
    store: FileStore,
) -> None:
    first, second = Ownership(store, "g1"), Ownership(store, "g1")
    await first.take()
    await second.take()
    assert not await first.beat()
    assert await second.beat()
    await store.delete("gateways/g1")  # the store has been emptied
    assert await second.beat()
    assert second.store_lost_it
    assert await second.beat()
    assert not second.store_lost_it
    await second.release()
    assert await store.get("gateways/g1") == NOBODY


ABOUT = """
import json
from server.gateway.storage.ownership import this_process
print(json.dumps(this_process()))
"""


@pytest.fixture
def left() -> bytes:
    """The mark of a process that has ended."""
    return subprocess.run([sys.executable, "-c", ABOUT], capture_output=True, check=True).stdout


async def test_a_process_that_has_ended_on_this_machine_is_not_waited_for(
    store: FileStore, left: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.gateway.storage.ownership.STALE_S", 1e9)
    assert has_ended(left)
    assert not has_ended(json.dumps(this_process()).encode())
    assert not has_ended(json.dumps({**this_process(), "machine": "another", "started": "1"}).encode())
    for foreign in (b"", b"[]", b"\xff", b"x", b"{}"):
        assert has_ended(foreign)
    await store.put("gateways/g1", left)
    await Ownership(store, "g1").take()
