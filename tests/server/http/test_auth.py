"""Who may do what: tokens, the server's key, names and other sites' pages."""

from __future__ import annotations

import pytest

from server.http.auth import Access, bearer
from tests.rigs.server.server_rig import Live, config, live

PAUSE = {"type": "pause"}


def key(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def open_session(server: Live, **headers: str) -> dict[str, str]:
    response = await server.http.post("/v1/sessions", json={"prompt": "a dog"}, headers=headers)
    assert response.status_code == 201, response.text
    opened: dict[str, str] = response.json()
    return opened


async def test_a_session_of_ones_own_needs_its_token() -> None:
    async with live() as server:
        mine, other = await open_session(server), await open_session(server)
        url = f"/v1/sessions/{mine['id']}"
        for token in ("", "nonsense", other["token"], other["view_token"]):
            answer = await server.http.get(url, headers=key(token))
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert (await server.http.delete(url, headers=key(token))).status_code == 401
        assert (await server.http.get(url, headers=key(mine["token"]))).status_code == 200


async def test_who_may_watch_may_not_steer() -> None:
    async with live() as server:
        mine = await open_session(server)
        url, watch = f"/v1/sessions/{mine['id']}", key(mine["view_token"])
        assert (await server.http.get(url, headers=watch)).status_code == 200
        for answer in (
            await server.control(PAUSE, mine["id"], **watch),
            await server.http.patch(url, json={"paused": True}, headers=watch),
            await server.http.delete(url, headers=watch),
        ):
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_beyond_loopback_opening_and_the_shared_session_need_secrets() -> None:
    async with live(config(host="0.0.0.0"), host="video.example") as server:
        api_key, main = server.services.access.api_key, server.services.gateway.session("main")
        assert api_key
        assert main.token
        assert (await server.http.get("/v1/sessions")).status_code == 401
        assert (await server.http.post("/v1/sessions", json={"prompt": "x"})).status_code == 401
        assert (await server.control(PAUSE)).status_code == 401
        assert (await server.control(PAUSE, **key(main.token))).status_code == 202
        assert (await server.http.get("/v1/sessions", headers=key(api_key))).status_code == 200
        mine = await open_session(server, **key(api_key))
        assert (await server.control(PAUSE, mine["id"], **key(api_key))).status_code == 202


async def test_a_given_key_is_used() -> None:
    async with live(config(api_key="let-me-in")) as server:
        assert (await server.http.get("/v1/sessions")).status_code == 401
        assert (await server.http.get("/v1/sessions", headers=key("let-me-in"))).status_code == 200
        assert (await server.http.get("/v1/sessions/main")).status_code == 200  # loopback: everybody's


# ---- pages of other sites ----


@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost:9999", "null"])
async def test_pages_of_other_sites_may_not_change_anything(origin: str) -> None:
    async with live() as server:
        for answer in (
            await server.control(PAUSE, Origin=origin),
            await server.http.post("/v1/sessions", json={"prompt": "x"}, headers={"Origin": origin}),
            await server.http.post("/v1/sessions/main/whep", headers={"Origin": origin}),
            await server.http.delete("/v1/sessions/main", headers={"Origin": origin}),
        ):
            assert (answer.status_code, answer.json()["field"]) == (403, "Origin")
            assert "access-control-allow-origin" not in answer.headers
        seen = await server.http.get("/v1/sessions/main", headers={"Origin": origin})
        assert "access-control-allow-origin" not in seen.headers  # the browser keeps it from the page


async def test_our_own_page_may() -> None:
    async with live() as server:
        assert (await server.control(PAUSE, Origin="http://localhost")).status_code == 202


async def test_a_site_that_is_named_may_and_sees_the_headers_that_players_need() -> None:
    site = "https://player.example"
    async with live(config(origins=(site,))) as server:
        answer = await server.control(PAUSE, Origin=site)
        assert answer.status_code == 202
        assert answer.headers["access-control-allow-origin"] == site
        assert "Location" in answer.headers["access-control-expose-headers"]
        assert answer.headers["vary"] == "Origin"
        preflight = await server.http.options(
            "/v1/sessions/main/whep",
            headers={"Origin": site, "Access-Control-Request-Method": "POST"},
        )
        assert preflight.status_code == 200
        assert "Authorization" in preflight.headers["access-control-allow-headers"]
        assert (await server.control(PAUSE, Origin="https://other.example")).status_code == 403


async def test_any_site_may_if_that_is_asked_for() -> None:
    async with live(config(origins=("*",))) as server:
        assert (await server.control(PAUSE, Origin="https://any.example")).status_code == 202


async def test_on_loopback_only_local_names_are_answered() -> None:
    """A site that lets its own name point to 127.0.0.1 would otherwise be 'our own page'."""
    async with live() as server:
        rebound = {"Host": "evil.example", "Origin": "http://evil.example"}
        answer = await server.http.get("/v1/sessions/main", headers=rebound)
        assert (answer.status_code, answer.json()["field"]) == (403, "Host")
        for name in ("localhost:8080", "127.0.0.1", "[::1]:8080", "LOCALHOST"):
            assert (await server.http.get("/livez", headers={"Host": name})).status_code == 200


def test_hosts_of_named_sites_are_known() -> None:
    access = Access(config(origins=("https://video.example",)))
    assert access.known_host("video.example")
    assert not access.known_host("other.example")
    assert not access.known_host(None)
    assert not access.known_host("[half")


def test_a_bearer_token_is_read_leniently() -> None:
    assert bearer("Bearer abc") == "abc"
    assert bearer("bearer  abc ") == "abc"
    assert bearer("Basic abc") == ""
    assert bearer(None) == ""
