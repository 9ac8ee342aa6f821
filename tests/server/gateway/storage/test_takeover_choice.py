"""Which saved sessions of a lost gateway another one takes over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import UnknownSession
from server.cluster.messages import GatewayEntry, Roster
from server.cluster.peers import Peers
from server.gateway.storage.ownership import NOBODY
from server.gateway.storage.saved import pack
from server.gateway.storage.stores.files import FileStore
from server.gateway.storage.takeover import AWAY_S, Takeover
from server.storage import StorageConfig
from server.worker.hosting.leases import CLOSE_S
from server.worker.messages.holding import Claimed, Orphaned
from tests.rigs.server.server_rig import gateway
from tests.server.gateway.storage.test_saved import SAVED


@pytest.mark.parametrize(("moved", "taken"), [({}, True), ({"g2-s": "g1"}, True), ({"g2-s": "g2"}, False)])
async def test_a_session_that_the_lost_gateway_had_claimed_is_taken_over_though_its_first_one_lives(
    tmp_path: Path, moved: dict[str, str], taken: bool
) -> None:
    """g2 had opened it, g1 had claimed and saved it, and all of them died. g2 came back without it, g1 never.
    Whoever took over left it in the store for ever, since its id names g2. Found by simulation
    (tests/server/simulation)."""
    store, now_s = FileStore(tmp_path), 0.0
    session = replace(SAVED, owner="g1", info=replace(SAVED.info, id="g2-s"))
    await store.put("sessions/g2-s", pack(session, 0.0))
    await store.swap("gateways/g1", None, NOBODY)
    peers = Peers("g3", b"key", lambda: now_s)
    entries = tuple(GatewayEntry(name, f"http://{name}:1") for name in ("g2", "g3"))
    peers.update(Roster(gateways=entries, moved=moved))
    now_s = AWAY_S + CLOSE_S
    async with gateway() as (gate, _, _):
        await Takeover(store, "g3", gate.sessions, peers, lambda: now_s).look()
        assert ("g2-s" in gate.sessions.waiting) == taken


async def test_a_session_that_is_closed_before_the_store_was_searched_does_not_come_back(
    tmp_path: Path,
) -> None:
    """The gateway had found it in the store at its start, and claimed it from the worker that still ran it.
    A client closed it, and the gateway resumed it from the store. Found by simulation."""
    async with gateway(storage=StorageConfig(tmp_path.as_uri())) as (gate, (worker,), _):
        gate.sessions.waiting.add("s1")
        worker.tell(Orphaned("s1", 1))
        worker.tell(Claimed("s1", 2, SAVED.info, b""))
        assert "s1" in gate.session_ids()
        await gate.close_session("s1")
        with pytest.raises(UnknownSession):
            gate.session("s1")
