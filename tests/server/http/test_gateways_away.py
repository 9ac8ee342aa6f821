"""What a gateway answers for one that is away, hangs or is killed: soon, and never for ever."""

from __future__ import annotations

import asyncio

import pytest

from server.cluster.messages import GatewayEntry, Roster
from server.http.edge import forwarding
from tests.rigs.server.cluster_rig import OWNER, balanced, opened, silent, tell, two
from tests.rigs.server.server_rig import until
from tests.server.http.problem import problem


async def test_a_gateway_that_is_away_is_named_at_once() -> None:
    async with two() as (g1, g2):
        session, own = await opened(g1)
        entries = (GatewayEntry("g1", "http://127.0.0.1:9"), GatewayEntry("g2", g2.url))
        g2.told(Roster(gateways=entries, main="g1"))  # nobody listens there
        for path in (session, "g1-other/whep", f"{session}/whep/g1-viewer", "g7-of-no-gateway"):
            answer = await g2.http.get(f"/v1/sessions/{path}", headers=own)
            assert problem(answer) == (503, "unavailable", None)
            assert f"gateway {path[:2]}" in answer.json()["message"]
            assert answer.headers["retry-after"] == "1"
        g2.told(Roster(gateways=entries[1:], main=""))
        assert problem(await g2.http.get("/v1/sessions/main", headers=OWNER)) == (503, "unavailable", None)


async def test_a_gateway_that_hangs_is_given_up_when_the_roster_drops_it() -> None:
    async with two() as (_, g2), silent() as (url, there):
        entries = (GatewayEntry("g1", url), GatewayEntry("g2", g2.url))
        g2.told(Roster(gateways=entries, main="g1"))
        asking = asyncio.create_task(g2.http.get("/v1/sessions/main", headers=OWNER))
        await until(lambda: there, "request at the other gateway")
        g2.told(Roster(gateways=entries[1:], main="g1"))
        assert problem(await asking) == (503, "unavailable", None)
        await until(lambda: not there, "end of the connection to it")


async def test_a_gateway_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "ANSWER_S", 0.2)
    async with two() as (_, g2), silent() as (url, _):
        entries = (GatewayEntry("g1", url), GatewayEntry("g2", g2.url))
        g2.told(Roster(gateways=entries, main="g1"))
        asked = await g2.http.post("/v1/sessions/main/controls", json={"type": "pause"}, headers=OWNER)
        assert problem(asked) == (503, "unavailable", None)


async def test_a_gateway_that_comes_back_elsewhere_is_found_there() -> None:
    async with two() as (g1, g2), silent() as (url, there):
        before = (GatewayEntry("g1", url), GatewayEntry("g2", g2.url))
        g2.told(Roster(gateways=before, main="g1"))
        asking = asyncio.create_task(g2.http.get("/v1/sessions/main", headers=OWNER))
        await until(lambda: there, "request at the old address")
        tell(g1, g2)
        assert problem(await asking) == (503, "unavailable", None)
        assert (await g2.http.get("/v1/sessions/main", headers=OWNER)).status_code == 200
        await until(lambda: not there, "end of the old connections")


async def test_a_request_ends_with_its_client() -> None:
    async with two() as (_, g2), silent() as (url, there):
        entries = (GatewayEntry("g1", url), GatewayEntry("g2", g2.url))
        g2.told(Roster(gateways=entries, main="g1"))
        for method, more in (("GET", {}), ("POST", {"content": b"{}"})):
            asking = asyncio.create_task(
                g2.http.request(method, "/v1/sessions/main", headers=OWNER, **more)  # type: ignore[arg-type]
            )
            await until(lambda: there, "request at the other gateway")
            asking.cancel()
            await until(lambda: not there, "end of the connection to it")


async def test_sessions_of_a_killed_gateway_go_on_behind_the_balancer() -> None:
    """Ids and tokens stay; until another gateway has them the answer is a 503, never a 404."""
    async with two() as (g1, g2), balanced(g1, g2) as http:
        answer = await http.post("/v1/sessions", json={"prompt": "a dog"})
        while not answer.json()["id"].startswith("g1-"):
            answer = await http.post("/v1/sessions", json={"prompt": "a dog"})
        session, own = answer.json()["id"], {"Authorization": f"Bearer {answer.json()['token']}"}
        for _ in range(8):
            assert (await http.get(f"/v1/sessions/{session}", headers=own)).status_code == 200
        lease = g1.gateway.session(session)
        await until(lambda: g1.gateway.parts.records._kept.get(lease.id), "record in the worker")
        await g1.vanish()
        async with asyncio.timeout(30):
            while (seen := await http.get(f"/v1/sessions/{session}", headers=own)).status_code != 200:
                assert problem(seen)[0] == 503
        assert session in g2.gateway.session_ids()
        tell(g2, main="g2", moved={session: "g2"})
        steered = await http.post(f"/v1/sessions/{session}/controls", json={"type": "pause"}, headers=own)
        assert steered.status_code == 202
        async with asyncio.timeout(30):
            while (seen := await http.get("/v1/sessions/main", headers=OWNER)).status_code != 200:
                assert problem(seen)[0] == 503
