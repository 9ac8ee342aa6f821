"""`GET /v1/sessions` of a cluster: the same list at each gateway, and soon, whoever is away."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from server.cluster.messages import GatewayEntry, Roster
from server.http.edge import gathering
from server.http.edge.vouching import HEADER, Passed, vouch
from server.http.routes import listing
from server.keys import KeyRing
from tests.rigs.server.cluster_rig import OWNER, Member, balanced, opened, silent, tell, two
from tests.rigs.server.port_rig import KEY
from tests.rigs.server.server_rig import live
from tests.server.http.problem import problem


def everybody(*gateways: tuple[str, str]) -> Roster:
    return Roster(gateways=tuple(GatewayEntry(name, url) for name, url in gateways), main="g1")


async def asked(at: Member, query: str = "") -> dict[str, Any]:
    answer = await at.http.get(f"/v1/sessions{query}", headers=OWNER)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def where(told: dict[str, Any]) -> dict[str, str]:
    return {each["id"]: each["gateway"] for each in told["sessions"]}


async def test_each_gateway_lists_the_sessions_of_all() -> None:
    async with two() as (g1, g2):
        one, other = (await opened(g1))[0], (await opened(g2))[0]
        for at in (g1, g2):
            answer = await asked(at)
            assert where(answer) == {"main": "g1", one: "g1", other: "g2"}
            name = at.gateway.peers.name
            assert (answer["gateway"], answer["unanswered"], answer["omitted"]) == (name, {}, 0)
            assert answer["sessions"][0]["gateway"] == name
            assert all("prompt" in each for each in answer["sessions"])
        async with balanced(g1, g2) as http:
            lists = [(await http.get("/v1/sessions")).json() for _ in range(8)]
        assert {each["gateway"] for each in lists} == {"g1", "g2"}
        assert all(where(each) == {"main": "g1", one: "g1", other: "g2"} for each in lists)


async def test_only_the_key_lists_and_it_is_checked_first() -> None:
    async with two() as (g1, g2):
        _, own = await opened(g1)
        for headers in ({}, own):
            assert (await g2.http.get("/v1/sessions", headers=headers)).status_code == 401


async def test_the_sessions_of_one_gateway_are_listed_at_any() -> None:
    async with two() as (g1, g2):
        other = (await opened(g2))[0]
        for at in (g1, g2):
            assert where(await asked(at, "?gateway=g2")) == {other: "g2"}
            assert where(await asked(at, "?gateway=g1")) == {"main": "g1"}
            refused = await at.http.get("/v1/sessions?gateway=g7", headers=OWNER)
            assert problem(refused) == (400, "invalid", "gateway")
            assert "the gateways: g1, g2" in refused.json()["message"]


async def test_a_list_is_bounded_and_says_what_it_leaves_out() -> None:
    async with two() as (g1, g2):
        for at in (g1, g1, g2, g2):
            await opened(at)
        for at in (g1, g2):
            for limit, sessions in ((1, 1), (2, 2), (4, 4), (5, 5), (1000, 5)):
                answer = await asked(at, f"?limit={limit}")
                assert len(answer["sessions"]) == sessions
                assert answer["omitted"] == 5 - sessions


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=-1", "limit=ten", "limit=²", "limit="])
async def test_a_bad_limit_is_refused(query: str) -> None:
    async with live() as server:
        assert problem(await server.http.get(f"/v1/sessions?{query}")) == (400, "invalid", "limit")
        assert problem(await server.http.get("/v1/sessions?of=g1")) == (400, "invalid", "of")


async def test_a_server_by_itself_lists_its_own() -> None:
    async with live() as server:
        answer = (await server.http.get("/v1/sessions")).json()
        assert [(each["id"], each["gateway"]) for each in answer["sessions"]] == [("main", None)]
        assert (answer["gateway"], answer["unanswered"], answer["omitted"]) == (None, {}, 0)
        refused = await server.http.get("/v1/sessions?gateway=g1")
        assert problem(refused) == (400, "invalid", "gateway")
        assert "no cluster" in refused.json()["message"]


async def test_gateways_that_hang_or_are_away_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "WITHIN_S", 1.0)
    async with two() as (g1, g2), silent() as (url, there):
        other = (await opened(g2))[0]
        roster = everybody(("g1", g1.url), ("g2", g2.url), ("g3", url), ("g4", "http://127.0.0.1:9"))
        for at in (g1, g2):
            at.told(roster)
            answer = await asked(at)
            assert {"g3", "g4"} <= answer["unanswered"].keys()
            assert answer["unanswered"]["g4"] == "it does not answer"
            assert answer["unanswered"]["g3"] == "it did not answer within 1 s"
            assert not answer["unanswered"].keys() - {"g1", "g2", "g3", "g4"}
            own = {"g1": "main", "g2": other}[answer["gateway"]]
            assert own in where(answer)  # even if this machine was too slow for the other one
        assert not there


async def test_a_gateway_with_another_key_is_named() -> None:
    async with two() as (g1, g2):
        g2.app.state.access.keys = KeyRing("another key of the same length..", None)
        answer = await asked(g1)
        assert where(answer) == {"main": "g1"}
        assert "give all gateways the same --api-key" in answer["unanswered"]["g2"]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"[]", "something else"),
        (b'{"sessions": 7}', "something else"),
        (b'{"sessions": [{"id": 7}]}', "something else"),
        (b'{"sessions": [], "omitted": "many"}', "something else"),
        (b"[" * 50_000, "something else"),
        (b'{"sessions": [], "gateway": "g9"}', "another gateway answers in its place"),
        (b'{"sessions": [], "more": "%s"}' % (b"x" * 9000), "too large"),
    ],
)
async def test_what_is_no_list_is_not_believed(
    body: bytes, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why == "too large":
        monkeypatch.setattr(gathering, "MOST_BYTES", 8192)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with two() as (g1, _), silent(head + body) as (url, _there):
        g1.told(everybody(("g1", g1.url), ("g2", url)))
        answer = await asked(g1)
        assert where(answer) == {"main": "g1"}
        assert why in answer["unanswered"]["g2"]


async def test_a_gateway_that_is_asked_by_another_one_asks_nobody() -> None:
    async with two() as (g1, g2):
        g1.told(everybody(("g1", g1.url), ("g2", g1.url)))  # an old address: it would ask itself for ever
        assert (await asked(g1))["unanswered"] == {"g2": "another gateway answers in its place"}
        tell(g1, g2)
        path = b"/v1/sessions"
        header = vouch(KEY, Passed("192.0.2.7", "http"), "GET", path, time.time())
        answer = await g2.http.get("/v1/sessions", headers=OWNER | {HEADER: header})
        assert json.loads(answer.text)["sessions"] == []


async def test_a_gateway_of_an_older_version_is_understood() -> None:
    body = b'{"sessions": [{"id": "g2-abc", "prompt": "a dog"}]}'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with two() as (g1, _), silent(head + body) as (url, _there):
        g1.told(everybody(("g1", g1.url), ("g2", url)))
        assert where(await asked(g1)) == {"main": "g1", "g2-abc": "g2"}


def test_a_session_that_two_gateways_have_is_listed_once() -> None:
    gathered = gathering.Gathered({"g2": {"sessions": [{"id": "g1-a"}, {"id": "g2-b"}]}}, {})
    answer = listing.listed("g1", [{"id": "g1-a"}], gathered, 10)
    assert where(answer) == {"g1-a": "g1", "g2-b": "g2"}
    assert answer["omitted"] == 0


async def test_whoever_asks_all_the_time_has_to_wait() -> None:
    async with two() as (g1, _):
        answers = [await g1.http.get("/v1/sessions", headers=OWNER) for _ in range(60)]
        assert {each.status_code for each in answers} == {200, 429}
        assert problem(answers[-1]) == (429, "rate_limited", None)
