"""Several gateways behind any load balancer: a request about a session reaches the gateway that has it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from server.cluster.messages import ClientUse, GatewayEntry, Roster
from server.http.edge import passing
from server.http.edge.vouching import HEADER, Passed, vouch
from tests.rigs.server.cluster_rig import OWNER, balanced, opened, tell, two
from tests.rigs.server.port_rig import KEY
from tests.rigs.server.server_rig import SDP, watcher
from tests.server.http.problem import problem


async def test_ids_carry_the_name_of_their_gateway() -> None:
    async with two() as (g1, g2):
        assert (await opened(g1))[0].startswith("g1-")
        assert (await opened(g2))[0].startswith("g2-")
        assert g1.gateway.session_ids()[0] == "main"
        assert "main" not in g2.gateway.session_ids()


async def test_every_request_about_a_session_works_at_the_wrong_gateway() -> None:
    async with two() as (g1, g2):
        session, own = await opened(g1)
        at, http = f"/v1/sessions/{session}", g2.http
        assert (await http.get(at, headers=own)).json()["id"] == session
        assert (await http.head(f"{at}/whep", headers=own)).status_code == 200
        steered = await http.post(f"{at}/controls", json={"type": "prompt", "text": "a cat"}, headers=own)
        assert (steered.status_code, steered.json()["status"]) == (202, "received")
        changed = await http.patch(at, json={"paused": True}, headers=own)
        assert (changed.status_code, len(changed.json()["receipts"])) == (202, 1)
        shared = await http.post(f"{at}/links", json={"role": "viewer"}, headers=own)
        assert shared.headers["location"].startswith(f"{at}/links/")
        assert shared.json()["page"].startswith(g2.url)  # the address that the client knows
        assert len((await http.get(f"{at}/links", headers=own)).json()["links"]) == 1
        assert (await http.delete(shared.headers["location"], headers=own)).status_code == 204
        await http.patch(at, json={"paused": False}, headers=own)
        end_s = time.monotonic() + 60
        snapshot = await http.get(f"{at}/snapshot", headers=own)
        while snapshot.status_code == 503 and time.monotonic() < end_s:  # nothing has been shown yet
            await asyncio.sleep(0.02)
            snapshot = await http.get(f"{at}/snapshot", headers=own)
        assert snapshot.status_code == 200, snapshot.text
        assert f'filename="{session}.safetensors"' in snapshot.headers["content-disposition"]
        assert len(snapshot.content) == int(snapshot.headers["content-length"])
        assert (await http.get(f"{at}/log", headers=own)).text.startswith("{")
        fork = await http.post(f"{at}/fork", json={}, headers=own)
        assert fork.status_code == 201, fork.text
        assert fork.json()["id"].startswith("g1-")
        assert "set-cookie" not in fork.headers
        assert (await http.delete(at, headers=own)).status_code == 204
        assert problem(await http.get(at, headers=own)) == (404, "unknown_session", "session")


async def test_a_session_is_rewound_and_forked_from_its_past_at_the_wrong_gateway() -> None:
    async with two() as (g1, g2):
        session, own = await opened(g1)
        at = f"/v1/sessions/{session}"
        back = {"type": "rewind", "id": "back", "seconds": 600}
        answer = await g2.http.post(f"{at}/controls", json=back, headers=own)
        end_s = time.monotonic() + 60
        while answer.json()["status"] == "received":
            assert time.monotonic() < end_s
            await asyncio.sleep(0.02)
            answer = await g2.http.post(f"{at}/controls", json=back, headers=own)
        assert answer.json()["status"] == "applied", answer.text
        assert (await g1.http.post(f"{at}/controls", json=back, headers=own)).json() == answer.json()
        fork = await g2.http.post(f"{at}/fork", json={"rewind_s": 600}, headers=own)
        assert fork.status_code == 201, fork.text
        assert fork.json()["id"].startswith("g1-")


async def test_every_documented_route_answers_the_same_at_both_gateways() -> None:
    async with two() as (g1, g2):
        session, own = await opened(g1)
        paths = (await g2.http.get("/openapi.json")).json()["paths"]
        routes = [(method.upper(), path) for path, verbs in paths.items() for method in verbs]
        about = [(method, path) for method, path in routes if "{session_id}" in path]
        assert len(about) > 15
        for method, path in about:
            url = path.replace("{session_id}", session)
            for name in ("viewer_id", "link_id", "push_id", "name"):
                url = url.replace(f"{{{name}}}", "g1-nobody")
            for headers in ({}, own):
                if headers is own and method == "DELETE" and url.endswith(session):
                    continue
                if headers is own and (url.endswith("/clip") or "/hls/" in url):
                    continue  # what it says depends on when it is asked
                answers = [await each.http.request(method, url, headers=headers) for each in (g1, g2)]
                first, second = answers
                assert first.status_code == second.status_code, (method, url)
                if first.is_error and method != "HEAD":
                    assert first.json() == second.json(), (method, url)
                for header in ("www-authenticate", "allow", "cache-control", "content-type", "vary"):
                    assert first.headers.get(header) == second.headers.get(header), (method, url, header)
                assert len(second.headers.get_list("date")) == 1


async def test_live_hls_and_clips_are_had_at_the_wrong_gateway() -> None:
    async with two() as (g1, g2):
        session, own = await opened(g1)
        at = f"/v1/sessions/{session}"
        token = own["Authorization"].removeprefix("Bearer ")
        for _ in range(600):
            playlist = await g2.http.get(f"{at}/hls/index.m3u8?token={token}")
            if playlist.status_code != 503:
                break
            await asyncio.sleep(0.05)
        assert playlist.text.startswith("#EXTM3U")
        parts = [line for line in playlist.text.splitlines() if line and not line.startswith("#")]
        for part in ("init.mp4", parts[0].partition("?")[0]):
            answers = [await each.http.get(f"{at}/hls/{part}?token={token}") for each in (g1, g2)]
            assert answers[1].headers["content-type"] == "video/mp4"
            assert len(answers[1].content) == len(answers[0].content) > 0
        clip = await g2.http.get(f"{at}/clip?seconds=1", headers=own)
        assert clip.status_code == 200
        assert len(clip.content) == int(clip.headers["content-length"]) > 0


async def test_a_viewer_joins_trickles_and_leaves_at_any_gateway() -> None:
    async with two() as (g1, g2), watcher() as viewer, balanced(g1, g2) as http:
        session, own = await opened(g1)
        offer = await viewer.offer()
        whep = f"/v1/sessions/{session}/whep"
        await viewer.accept(await g2.http.post(whep, content=offer, headers=SDP | own))
        assert (await viewer.frame()).width > 0
        for _ in range(6):
            trickled = await http.patch(
                viewer.location, content="", headers={"Content-Type": "application/trickle-ice-sdpfrag"}
            )
            assert trickled.status_code == 204, trickled.text
        for each in (g1, g2):
            assert (await each.http.delete(viewer.location)).status_code == 200
        assert len(g1.services.viewers) + len(g2.services.viewers) == 0


async def test_a_viewer_beyond_the_most_guests_is_served_by_the_owner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.worker.hosting.guests.MAX_GUESTS", 0)
    async with two() as (g1, g2), watcher() as viewer:
        session, own = await opened(g1)
        offer = await viewer.offer()
        whep = f"/v1/sessions/{session}/whep"
        await viewer.accept(await g2.http.post(whep, content=offer, headers=SDP | own))
        assert viewer.location.startswith(f"{whep}/g1-")
        assert (await viewer.frame()).width > 0


async def test_gateways_below_a_path_reach_each_other() -> None:
    async with two(root_path="/video") as (g1, g2):
        entries = tuple(GatewayEntry(each.gateway.peers.name, f"{each.url}/video") for each in (g1, g2))
        g2.told(Roster(gateways=entries, main="g1"))
        session, own = await opened(g1)
        for path in ("", "/video"):
            shared = await g2.http.post(f"{path}/v1/sessions/{session}/links", json={}, headers=own)
            assert shared.headers["location"].startswith(f"/video/v1/sessions/{session}/links/")


async def test_main_is_watched_at_any_gateway() -> None:
    async with two() as (g1, g2):
        for each in (g1, g2):
            assert (await each.http.get("/v1/sessions/main", headers=OWNER)).json()["id"] == "main"
        refused = await g2.http.delete("/v1/sessions/main", headers=OWNER)
        assert problem(refused) == (403, "forbidden", None)


async def test_the_owner_counts_the_real_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.http.fairness.GUESSES_PER_S", 0.001)  # else one more every two seconds
    async with two() as (g1, g2):
        session, own = await opened(g1)
        real = own | {"X-Forwarded-For": "192.0.2.7"}  # this machine is a trusted proxy
        fork = await g2.http.post(f"/v1/sessions/{session}/fork", json={}, headers=real)
        assert g1.gateway.session(fork.json()["id"]).client == "192.0.2.7"
        for _ in range(10):
            guess = await g2.http.get(f"/v1/sessions/{session}", headers=real | wrong())
            assert guess.status_code == 401
        there = {"X-Forwarded-For": "192.0.2.7"} | wrong()
        late = await g1.http.get(f"/v1/sessions/{session}", headers=there)
        assert problem(late) == (429, "rate_limited", None)  # its guesses at the other gateway count here
        other = {"X-Forwarded-For": "192.0.2.8"} | wrong()
        assert (await g2.http.get(f"/v1/sessions/{session}", headers=other)).status_code == 401


def wrong() -> dict[str, str]:
    return {"Authorization": "Bearer wrong"}


async def test_nobody_else_can_vouch_for_a_client() -> None:
    async with two() as (g1, _):
        path = b"/v1/sessions/main"
        forged = vouch(b"another key of some length", Passed("192.0.2.7", "http"), "GET", path, time.time())
        for header in (forged, "1 http 192.0.2.7 00", ""):
            answer = await g1.http.get("/v1/sessions/main", headers=OWNER | {HEADER: header})
            assert problem(answer) == (403, "forbidden", None)
        true = vouch(KEY, Passed("192.0.2.7", "http"), "GET", path, time.time())
        assert (await g1.http.get("/v1/sessions/main", headers=OWNER | {HEADER: true})).status_code == 200


async def test_a_gateway_whose_clock_is_wrong_is_named_and_its_clients_try_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with two() as (g1, _):
        early = vouch(KEY, Passed("192.0.2.7", "http"), "GET", b"/v1/sessions/main", time.time() - 600)
        answer = await g1.http.get("/v1/sessions/main", headers=OWNER | {HEADER: early})
        assert problem(answer) == (503, "unavailable", None)
        assert "retry-after" in answer.headers
        assert "the clocks of two gateways differ by 60" in answer.json()["message"]
    assert "passed on is refused: the clocks of two gateways differ" in caplog.text


async def test_a_request_is_passed_on_once() -> None:
    """Two gateways that take each other for the owner, as two rosters of different age may have it."""
    async with two() as (g1, g2):
        gateways = tuple(GatewayEntry(each.gateway.peers.name, each.url) for each in (g1, g2))
        g1.told(Roster(gateways=gateways, moved={"g3-x": "g2"}, main="g1"))
        g2.told(Roster(gateways=gateways, moved={"g3-x": "g1"}, main="g1"))
        for each in (g1, g2):
            answer = await each.http.get("/v1/sessions/g3-x", headers=OWNER)
            assert problem(answer) == (503, "unavailable", None)
            assert answer.headers["retry-after"] == "1"


async def test_a_client_cannot_make_a_gateway_pass_on_all_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passing, "PASSED_PER_S", 0.001)
    monkeypatch.setattr(passing, "PASSED_BURST", 3)
    async with two() as (_, g2):
        for _ in range(3):
            assert (await g2.http.get("/v1/sessions/main", headers=OWNER)).status_code == 200
        answer = await g2.http.get("/v1/sessions/main", headers=OWNER)
        assert problem(answer) == (429, "rate_limited", None)
        assert int(answer.headers["retry-after"]) > 0
        other = OWNER | {"X-Forwarded-For": "192.0.2.8"}
        assert (await g2.http.get("/v1/sessions/main", headers=other)).status_code == 200


async def test_a_body_that_is_too_large_is_refused_as_by_the_owner() -> None:
    async with two() as (g1, g2):
        session, own = await opened(g1)
        at = f"/v1/sessions/{session}"

        async def parts() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield b"x" * 10_000

        for each in (g1, g2):
            for body in (b"x" * 200_000, parts()):
                answer = await each.http.post(f"{at}/whep", content=body, headers=SDP | own)
                assert problem(answer) == (413, "too_large", "body")
        transport = httpx.ASGITransport(g2.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=g2.url) as http:
            picture = await http.post(f"{at}/controls", content=b"x" * 4_000_000, headers=own)
            assert problem(picture) == (413, "too_large", "body")


async def test_pages_of_other_sites_are_judged_by_the_gateway_that_they_ask() -> None:
    async with two(origins=("https://video.example",)) as (g1, g2):
        session, own = await opened(g1)
        page = f"/v1/sessions/{session}"
        allowed = await g2.http.get(page, headers=own | {"Origin": "https://video.example"})
        assert allowed.headers["access-control-allow-origin"] == "https://video.example"
        assert allowed.headers["vary"] == "Origin"
        refused = await g2.http.post(
            f"{page}/fork", json={}, headers=own | {"Origin": "https://other.example"}
        )
        assert problem(refused) == (403, "forbidden", "Origin")
        preflight = {"Origin": "https://video.example", "Access-Control-Request-Method": "PATCH"}
        assert (await g2.http.options(page, headers=preflight)).status_code == 200


async def test_sessions_at_other_gateways_count_against_a_client_s_share() -> None:
    async with two(client_sessions=2) as (g1, g2):
        tell(g1, g2, used={"127.0.0.1": ClientUse(1, 0.0)})
        await opened(g1)
        answer = await g1.http.post("/v1/sessions", json={"prompt": "a dog"}, headers=OWNER)
        assert problem(answer) == (429, "over_budget", None)
        assert "2 sessions" in answer.json()["message"]
