"""A gateway whose --advertise leads nowhere, or to somebody else, is found out: by itself and by another."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from benchmarks.network.ports import free_port
from server.cluster.messages import GATEWAY_FAULT, GatewayEntry, Roster
from server.cluster.operating import status
from server.cluster.tables import for_members
from server.http.edge.forwarding import Forwarding
from server.http.edge.reach import PATH, SETTLED_S, TRIES, GatewayReach, Identity, tried
from server.http.edge.vouching import HEADER, Passed, vouch
from tests.rigs.engine.fakes import ManualClock
from tests.rigs.server.cluster_rig import Member, member
from tests.rigs.server.port_rig import KEY, listening
from tests.rigs.server.processes_rig import cluster
from tests.rigs.waiting import LONG_S, until

NOWHERE = "leads nowhere: All connection attempts failed"
OTHER_KEY = b"fedcba98765432100123456789abcdef"


@contextlib.asynccontextmanager
async def gateways() -> AsyncIterator[tuple[Member, Member, int]]:
    """g1 and g2, and the port of their worker."""
    async with listening() as (_, port), member("g1", [port]) as g1, member("g2", [port]) as g2:
        yield g1, g2, port


def roster(g1: str, g2: str = "", faults: dict[str, str] | None = None) -> Roster:
    """`faults` are those that g2 tells of."""
    found = [GatewayEntry("g1", g1), *([GatewayEntry("g2", g2, faults=faults or {})] if g2 else [])]
    return Roster(gateways=tuple(found), main="g1")


class Looking:
    """g1 looks, at any time that a test wants; `url` is what it advertises."""

    def __init__(self, g1: Member, url: str) -> None:
        self.clock = ManualClock()
        self.peers = g1.gateway.peers
        self.reach = GatewayReach(self.peers, url, g1.app.state.identity, self.clock)

    async def look(self, times: int = TRIES) -> GatewayReach:
        for _ in range(times):
            await self.reach.look()
            self.clock.now_s += 1.0
        return self.reach


@contextlib.asynccontextmanager
async def looking(g1: Member, url: str) -> AsyncIterator[Looking]:
    made = Looking(g1, url)
    async with contextlib.aclosing(made.reach._forwarding):
        yield made


async def test_gateways_that_are_where_they_say_have_no_fault() -> None:
    async with gateways() as (g1, g2, _), looking(g1, g1.url) as own:
        own.peers.update(roster(g1.url, g2.url))
        reach = await own.look()
        assert (reach.fault, reach.unready, reach.faults) == (None, None, {})


async def test_an_address_that_leads_to_another_gateway_makes_unready(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with gateways() as (g1, g2, _), looking(g1, g2.url) as own:
        own.peers.update(roster(g2.url, g2.url))
        reach = await own.look(1)
        assert reach.fault == reach.unready == f"{g2.url} leads to gateway g2"
        assert reach.faults == {"g1": f"{g2.url} leads to gateway g2"}
        (line,) = [r.getMessage() for r in caplog.records if "may not reach" in r.getMessage()]
        assert line.startswith(
            f"other gateways may not reach this one: {g2.url} leads to gateway g2; give it"
        )
        g1.services.reach = reach
        told = await g1.http.get("/readyz")
        assert (told.status_code, told.json()["warnings"]) == (503, [reach.fault])
        assert f"do not reach this one: {reach.fault}" in told.json()["reasons"][0]


async def test_an_address_that_leads_nowhere_is_a_warning() -> None:
    """It may be one that only others reach, or one that leads here as soon as this gateway is ready. Unless
    another gateway has found somebody else there."""
    away = f"http://127.0.0.1:{free_port()}"
    async with gateways() as (g1, g2, _), looking(g1, away) as own:
        own.peers.update(roster(away, g2.url))
        assert (await own.look(TRIES - 1)).fault is None, "one try is nothing"
        reach = await own.look(1)
        assert (reach.fault, reach.unready, reach.faults) == (f"{away} {NOWHERE}", None, {})
        g1.services.reach = reach
        told = await g1.http.get("/readyz")
        assert (told.status_code, told.json()["warnings"]) == (200, [f"{away} {NOWHERE}"])
        own.peers.update(roster(away, g2.url, {f"{GATEWAY_FAULT}g1": f"{away} {NOWHERE}"}))
        assert (await own.look(1)).unready is None
        assert reach.fault == f"g2 says: {away} {NOWHERE}"
        own.peers.update(roster(away, g2.url, {f"{GATEWAY_FAULT}g1": f"{away} leads to gateway g3"}))
        assert (await own.look(1)).unready == f"g2 says: {away} leads to gateway g3"
        assert (await g1.http.get("/readyz")).status_code == 503
        own.peers.update(roster(away, g2.url))
        assert (await own.look(1)).unready is None


async def test_a_gateway_that_was_reached_stays_ready_since_it_has_sessions() -> None:
    async with gateways() as (g1, g2, _), looking(g1, g1.url) as own:
        own.peers.update(roster(g1.url, g2.url))
        await own.look()
        own.clock.now_s += SETTLED_S
        await own.look(1)
        own.peers.update(roster(g1.url, g2.url, {f"{GATEWAY_FAULT}g1": "it leads to gateway g3"}))
        reach = await own.look(1)
        assert (reach.fault, reach.unready) == ("g2 says: it leads to gateway g3", None)


async def test_a_gateway_alone_is_only_warned() -> None:
    async with gateways() as (g1, g2, _), looking(g1, g2.url) as own:
        own.peers.update(roster(g2.url))
        reach = await own.look()
        assert reach.unready is None
        assert reach.fault == reach.faults["g1"] == f"{g2.url} leads to gateway g2"


async def test_another_gateway_is_tried_unless_it_may_be_gone(caplog: pytest.LogCaptureFixture) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    async with gateways() as (g1, _, _), looking(g1, g1.url) as own:
        own.peers.update(roster(g1.url, away))
        reach = await own.look()
        assert reach.faults == {"g2": f"{away} {NOWHERE}"}
        assert (reach.fault, reach.unready) == (None, None)
        assert f"gateway g2 cannot be reached: {away} {NOWHERE}; give it an --advertise" in caplog.text
        gone = GatewayEntry("g2", away, ready=False)
        own.peers.update(Roster(gateways=(GatewayEntry("g1", g1.url), gone)))
        assert (await own.look()).faults == {}


async def test_who_answers_must_prove_the_name_and_the_instance() -> None:
    async with gateways() as (g1, _, port), contextlib.aclosing(Forwarding()) as forwarding:
        assert await tried(forwarding, g1.url, "g1", KEY) is None
        wrong = await tried(forwarding, g1.url, "g1", KEY, Identity("g1", KEY).instance)
        assert wrong is not None
        assert "another gateway that is named g1 too" in wrong.why
        wrong = await tried(forwarding, g1.url, "g1", OTHER_KEY)
        assert wrong is not None
        assert "give them the same --join-key-file" in wrong.why
        both = OTHER_KEY + b"\n" + KEY  # while the key is replaced
        assert (await tried(forwarding, g1.url, "g1", KEY + b"\n" + OTHER_KEY)) is None
        assert (await tried(forwarding, g1.url, "g1", both)) is not None, (
            "it vouches with a key unknown there"
        )
        async with member("", [port], api_key="0123456789abcdeffedcba9876543210") as alone:
            wrong = await tried(forwarding, alone.url, "g1", KEY)
            assert wrong is not None
            assert wrong.certain
            assert "no gateway of this cluster" in wrong.why


@pytest.mark.parametrize("host", ["a" * 70, "a b", "xn--a", "1.2.3.4.5"])
async def test_an_address_that_none_can_have_leads_nowhere(host: str) -> None:
    """The name lookup raised an error of its own, which ended the search."""
    async with contextlib.aclosing(Forwarding()) as forwarding:
        wrong = await tried(forwarding, f"http://{host}.invalid:80", "g1", KEY)
        assert wrong is not None
        assert f"{host}.invalid:80 leads nowhere: " in wrong.why


async def test_nobody_else_is_told_who_a_gateway_is() -> None:
    async with gateways() as (g1, _, _):
        assert (await g1.http.get(f"{PATH}?x")).status_code == 404
        for key, status_ in ((OTHER_KEY, 403), (KEY, 200)):
            target = f"{PATH}?x".encode()
            header = vouch(key, Passed("192.0.2.7", "http"), "GET", target, time.time())
            answer = await g1.http.get(target.decode(), headers={HEADER: header})
            assert answer.status_code == status_
            assert ("proof" in answer.json()) == (status_ == 200)


def test_status_names_the_gateway_and_the_fix() -> None:
    told = roster("http://a", "http://b", {f"{GATEWAY_FAULT}g1": "http://a leads nowhere", "w1": "no room"})
    lines = list(status(told))
    fix = "give it an --advertise where the other gateways reach it, and nobody else is"
    assert f"g2 cannot reach gateway g1: http://a leads nowhere; {fix}" in lines
    assert "g2 cannot use w1: no room" in lines
    assert for_members(told).gateways[1].faults == {f"{GATEWAY_FAULT}g1": "http://a leads nowhere"}


@pytest.mark.slow
async def test_a_cluster_says_which_gateway_is_not_where_it_says(tmp_path: Path) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    async with cluster(tmp_path) as there:
        await there.up()
        await there.worker("w1")
        await there.gateway("g1")
        await there.gateway("g2", "--advertise", away)
        await until(lambda: away in (tmp_path / "g2.log").read_text(), "its own log", LONG_S)
        await until(lambda: away in (tmp_path / "g1.log").read_text(), "the other's log", LONG_S)
        while f"g1 cannot reach gateway g2: {away} {NOWHERE}; give it" not in (
            told := await there.command("status")
        ):
            assert "g1" in told
        assert (await there.ask("g1", "GET", "/readyz"))["warnings"] == []
        assert away in str((await there.ask("g2", "GET", "/readyz"))["warnings"])
        await there.end("g2")
        await there.gateway("g2", "--advertise", there.urls["g1"])
        await there.until_unready("g2", f"{there.urls['g1']} leads to gateway g1")
        await there.end("g2")
        await there.gateway("g2", "--advertise", away)
        assert f"g2 cannot be reached from here: {away} {NOWHERE}" in await there.doctor()


class Stranger(Forwarding):
    """Who answers is not of this cluster."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__()
        self._answer = status, body

    async def ask(
        self, url: str, target: bytes, headers: Mapping[str, str], most: int, within_s: float
    ) -> tuple[int, bytes]:
        return self._answer


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, rb'{"gateway": "g1", "instance": "i", "proof": "\ud800"}'),
        (200, rb'{"gateway": "\ud800", "instance": "\ud800", "proof": "0"}'),
        (403, rb'{"message": "\ud800"}'),
        (200, b"\xff"),
        (200, b"[]"),
    ],
)
async def test_an_odd_answer_is_somebody_elses(status: int, body: bytes) -> None:
    """Half a surrogate pair raised an error, which ended the search for good."""
    async with contextlib.aclosing(Stranger(status, body)) as stranger:
        wrong = await tried(stranger, "http://192.0.2.1", "g1", KEY)
    assert wrong is not None
    assert wrong.certain
    assert "is somebody else: " in wrong.why
    wrong.why.encode()
