"""Gateways that come, watch, steer, leave and die in a random order: seeded, with real sockets."""

from __future__ import annotations

import random

import pytest

from engine.types import Control, Prompt
from server.gateway.gateway import Gateway
from server.gateway.session import GatewaySession
from server.worker.messages.events import Packet
from tests.rigs.server.port_rig import vanish
from tests.rigs.server.server_rig import join, recorded, until
from tests.server.gateway.guests.gateways import gateways

STEPS = 30


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gateway.upkeep.EVERY_S", 0.02)
    monkeypatch.setattr("server.gateway.guests.guests.EVERY_S", 0.02)
    monkeypatch.setattr("server.gateway.guests.guests.LINGER_S", 0.5)
    monkeypatch.setattr("server.gateway.guests.search.PATIENCE_S", 0.05)


class Viewer:
    """Somebody who watches a session at a gateway, and what was shown there."""

    def __init__(self, at: Gateway, session: GatewaySession, seen: list[Packet]) -> None:
        self.at, self.session, self.seen = at, session, seen
        self.subscription = join(session.fanout)

    def leave(self) -> None:
        self.session.fanout.leave(self.subscription)


def holder(gates: list[Gateway], session: str) -> Gateway | None:
    return next((gate for gate in gates if session in gate.sessions), None)


async def moving(viewers: list[Viewer], for_90k: int) -> None:
    """Wait until all of them have seen this much more."""
    last = [(viewer, viewer.seen[-1].pts_90k if viewer.seen else -1) for viewer in viewers]
    await until(lambda: all(v.seen and v.seen[-1].pts_90k > at + for_90k for v, at in last), "video")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 6])
async def test_whatever_happens_the_rest_watches_and_steers(seed: int) -> None:
    """No frame is shown twice or late at any gateway, each control takes effect, and in the end everybody who
    is left sees the same."""
    chance = random.Random(seed)
    async with gateways(4, workers=2) as (alive, _):
        session = (await alive[0].open("a dog", seed)).id
        spied: dict[int, list[Packet]] = {}
        viewers: list[Viewer] = []
        sent: dict[str, Gateway] = {}

        async def watch(gate: Gateway) -> None:
            found = gate.sessions.get(session) or await gate.guests.find(session)
            if found is not None and not found.fanout.closed:
                seen = (
                    spied.setdefault(id(found), recorded(found.fanout))
                    if id(found) not in spied
                    else spied[id(found)]
                )
                viewers.append(Viewer(gate, found, seen))

        for number in range(STEPS):
            gate = chance.choice(alive)
            match chance.choice(["watch", "watch", "leave", "steer", "steer", "move", "kill", "wait"]):
                case "watch":
                    await watch(gate)
                case "leave" if viewers:
                    viewers.pop(chance.randrange(len(viewers))).leave()
                case "steer" if session in gate.sessions or gate.guests.get(session):
                    name = f"c{number}"
                    if (
                        gate.shown.submit(session, Control(name, Prompt(f"a dog {name}"))).status
                        == "received"
                    ):
                        sent[name] = gate
                case "move" if (owner := holder(alive, session)) is not None:
                    mine = owner.session(session)
                    target = next(w for w in owner.fleet if w.name != mine.worker)
                    if not mine.moving and mine.handover is None:
                        await owner.parts.migration.move(mine, target)
                case "kill" if len(alive) > 2:
                    alive.remove(gate)
                    viewers = [viewer for viewer in viewers if viewer.at is not gate]
                    sent = {name: at for name, at in sent.items() if at is not gate}
                    vanish(gate)
                    await until(lambda: holder(alive, session), "an owner")
                case "wait":
                    await moving(viewers, 0)
        await until(lambda: holder(alive, session), "an owner")
        for gate in alive:
            await watch(gate)
        await moving(viewers, 90_000)
        for viewer in viewers:
            times = [packet.pts_90k for packet in viewer.seen]
            assert times == sorted(set(times))
            assert [packet.frame for packet in viewer.seen] == sorted(packet.frame for packet in viewer.seen)
        until_90k = min(viewer.seen[-1].pts_90k for viewer in viewers)
        since_90k = until_90k - 60_000
        shown = [[p for p in v.seen if since_90k < p.pts_90k <= until_90k] for v in viewers]
        assert all(each == shown[0] for each in shown)
        for name, gate in sent.items():
            here = gate.sessions.get(session) or gate.guests.get(session)
            if here is not None and name in here.answers:
                await until(lambda h=here, n=name: h.answers[n].status == "applied", f"effect of {name}")  # type: ignore[misc]
