"""A server that is stopped in an orderly way, and started again, perhaps several times."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from engine.errors import Unavailable
from engine.types import Control, Prompt
from server.gateway.gateway import Gateway
from server.gateway.session import GatewaySession
from server.gateway.storage.ownership import Ownership
from server.gateway.storage.stores.files import FileStore
from server.metrics import Metrics
from server.storage import StorageConfig
from server.worker.messages.events import WorkerReady
from server.worker.thread import InProcessWorker
from tests.rigs.server.server_rig import config, join, recorded, until
from tests.server.gateway.storage.test_outside import contents, gateway, saved_by


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gateway.storage.outside.EVERY_S", 0.01)


async def watched(session: GatewaySession) -> None:
    """Show some of it."""
    sent = recorded(session.fanout)
    join(session.fanout)
    await until(lambda: len(sent) > 10, "video")


async def test_losses_between_which_nothing_was_shown_are_one(tmp_path: Path) -> None:
    """A client that was away meanwhile hears of the last one only."""
    losses: list[tuple[int, ...]] = []
    async with gateway(tmp_path.as_uri()) as gate:
        mine = await gate.open("a dog")
        await watched(mine)
    for shows in (False, True, False):
        async with gateway(tmp_path.as_uri()) as gate:
            await until(lambda g=gate: mine.id in g.session_ids(), "the session")  # type: ignore[misc]
            losses.append(gate.session(mine.id).lost_frames)
            if shows:
                await watched(gate.session(mine.id))
    (first, once), (same, twice), (later, _) = losses
    assert first == same < once < twice < later


async def test_no_number_goes_back_for_whoever_asks_at_once(tmp_path: Path) -> None:
    async with gateway(tmp_path.as_uri()) as gate:
        mine = await gate.open("a dog")
        await watched(mine)
    async with gateway(tmp_path.as_uri()) as gate:
        while mine.id not in gate.sessions:  # noqa: ASYNC110 - seen before its worker says that it is open
            await asyncio.sleep(0)
        session = gate.session(mine.id)
        assert session.info.frame >= session.lost_frames[1] > session.lost_frames[0]


class Slow(FileStore):
    """It never ends a save that is begun while `slow`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.slow, self.begun = False, asyncio.Event()

    async def put(self, name: str, data: bytes) -> None:
        if self.slow:
            self.begun.set()
            await asyncio.Event().wait()
        await super().put(name, data)


async def test_a_save_that_the_end_cuts_short_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counted as done."""
    store = Slow(tmp_path)

    def opened(config: StorageConfig) -> FileStore:
        return store

    monkeypatch.setattr("server.gateway.storage.outside.open_store", opened)
    async with gateway(tmp_path.as_uri()) as gate:
        mine = await gate.open("a dog")
        await until(lambda: mine.id in saved_by(tmp_path), "it in the store")
        store.slow = True
        gate.submit(mine.id, Control("c1", Prompt("a cat")))
        await until(lambda: gate.info(mine.id).prompt == "a cat", "its effect")
        await until(store.begun.is_set, "the next save")
        store.slow = False
    assert contents(tmp_path, mine.id).info.prompt == "a cat"


class Loading(InProcessWorker):
    """Its model takes until `loaded`."""

    loaded: asyncio.Event

    async def start(self) -> WorkerReady:
        await self.loaded.wait()
        return await super().start()


async def test_a_gateway_keeps_its_name_while_its_model_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its mark stood still until a worker served, so another gateway could take the name."""
    monkeypatch.setattr("server.gateway.storage.outside.BEAT_S", 0.001)
    monkeypatch.setattr("server.gateway.storage.ownership.LOOK_S", 0.1)
    Loading.loaded = asyncio.Event()
    settings = config(host="192.0.2.1", storage=StorageConfig(tmp_path.as_uri()))
    gate = Gateway(settings, partial(Loading, settings.worker), Metrics())
    starting = asyncio.create_task(gate.__aenter__())
    try:
        store = FileStore(tmp_path)
        await until(lambda: (tmp_path / "gateways" / "gateway").exists(), "its mark")
        with pytest.raises(Unavailable, match="another gateway"):
            await Ownership(store, "gateway").take()
    finally:
        Loading.loaded.set()
        await starting
        await gate.close()
