"""Authorisation: tokens, API keys, host names and pages of other sites."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InvalidInput
from server.access.links import MOST, Links
from server.access.tokens import hash_of
from server.http.auth import Access, bearer
from tests.rigs.server.rights_rig import KEY
from tests.rigs.server.server_rig import Live, config, live, until, watching

PAUSE = {"type": "pause"}


def key(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def open_session(server: Live, **headers: str) -> dict[str, str]:
    response = await server.http.post("/v1/sessions", json={"prompt": "a dog"}, headers=headers)
    assert response.status_code == 201, response.text
    opened: dict[str, str] = response.json()
    return opened


async def test_a_private_session_needs_its_token() -> None:
    async with live(config()) as server:
        mine, other = await open_session(server), await open_session(server)
        url = f"/v1/sessions/{mine['id']}"
        for token in ("", "nonsense", other["token"], other["view_token"]):
            answer = await server.http.get(url, headers=key(token))
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert (await server.http.delete(url, headers=key(token))).status_code == 401
        assert (await server.http.get(url, headers=key(mine["token"]))).status_code == 200


async def test_a_view_token_may_not_steer() -> None:
    async with live(config()) as server:
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
        api_key, main = server.services.access.made_key, server.services.gateway.session("main")
        assert api_key
        assert main.token
        assert (await server.http.get("/v1/sessions")).status_code == 401
        assert (await server.http.post("/v1/sessions", json={"prompt": "x"})).status_code == 401
        assert (await server.control(PAUSE)).status_code == 401
        assert (await server.control(PAUSE, **key(main.token))).status_code == 202
        assert (await server.http.get("/v1/sessions", headers=key(api_key))).status_code == 200
        mine = await open_session(server, **key(api_key))
        assert (await server.control(PAUSE, mine["id"], **key(api_key))).status_code == 202


async def test_a_given_key_is_used_and_protects_main_too() -> None:
    """On loopback a key means that clients come through a proxy."""
    async with live(config(api_key=KEY)) as server:
        assert (await server.http.get("/v1/sessions")).status_code == 401
        assert (await server.http.get("/v1/sessions", headers=key(KEY))).status_code == 200
        assert (await server.http.get("/v1/sessions/main")).status_code == 401
        assert (await server.http.get("/v1/sessions/main", headers=key(KEY))).status_code == 200


async def test_keys_of_a_file_have_names_and_can_be_replaced_while_it_runs(tmp_path: Path) -> None:
    alice, bob, carol = (secrets.token_hex(16) for _ in range(3))
    file = tmp_path / "keys"
    file.write_text(f"alice {alice}\n# of last year\nbob {bob}\n")
    async with live(config(host="0.0.0.0", api_keys=file), host="video.example") as server:
        access = server.services.access
        assert access.made_key is None
        assert [access.key_name(each) for each in (alice, bob, carol)] == ["alice", "bob", None]
        mine = await open_session(server, **key(alice))
        file.write_text(f"bob {bob}\ncarol {carol}\n")
        access.keys.refresh()
        assert (await server.http.get("/v1/sessions", headers=key(alice))).status_code == 401
        assert (await server.http.get("/v1/sessions", headers=key(carol))).status_code == 200
        assert (await server.control(PAUSE, mine["id"], **key(mine["token"]))).status_code == 202


# ---- links that end ----


async def make_link(server: Live, mine: dict[str, str], **body: object) -> dict[str, Any]:
    url = f"/v1/sessions/{mine['id']}/links"
    answer = await server.http.post(url, json=body, headers=key(mine["token"]))
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_a_link_steers_or_watches_but_copies_shares_and_closes_nothing() -> None:
    async with live(config()) as server:
        mine = await open_session(server)
        url = f"/v1/sessions/{mine['id']}"
        watch, drive = await make_link(server, mine), await make_link(server, mine, role="driver")
        assert (watch["role"], drive["role"]) == ("viewer", "driver")
        assert watch["page"].endswith(f"?session={mine['id']}&watch#token={watch['token']}")
        assert drive["page"].endswith(f"?session={mine['id']}#token={drive['token']}")
        assert (await server.http.get(url, headers=key(watch["token"]))).status_code == 200
        assert (await server.control(PAUSE, mine["id"], **key(watch["token"]))).status_code == 403
        assert (await server.control(PAUSE, mine["id"], **key(drive["token"]))).status_code == 202
        for method, path in (
            ("DELETE", ""),
            ("POST", "/fork"),
            ("GET", "/snapshot"),
            ("GET", "/log"),
            ("POST", "/links"),
            ("GET", "/links"),
        ):
            for token in (watch["token"], drive["token"]):
                answer = await server.http.request(method, url + path, headers=key(token))
                assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), path
        listed = (await server.http.get(f"{url}/links", headers=key(mine["token"]))).json()["links"]
        assert [link["id"] for link in listed] == [watch["id"], drive["id"]]
        assert watch["token"] not in json.dumps(listed)


@pytest.mark.parametrize("body", [{"expires_in_s": 0}, {"expires_in_s": 1e9}, {"role": "owner"}, {"x": 1}])
async def test_a_link_that_cannot_be_is_refused_by_its_field(body: dict[str, Any]) -> None:
    async with live(config()) as server:
        mine = await open_session(server)
        url = f"/v1/sessions/{mine['id']}/links"
        answer = await server.http.post(url, json=body, headers=key(mine["token"]))
        assert (answer.status_code, answer.json()["field"]) == (400, next(iter(body)))


async def test_clients_of_a_link_are_disconnected_when_it_ends() -> None:
    async with live(config()) as server:
        mine = await open_session(server)
        link = await make_link(server, mine, role="driver")
        async with watching(server, mine["id"], token=link["token"]) as viewer:
            await viewer.frame()
            await until(lambda: viewer.heard("session"), "the data channel is open")
            url = f"/v1/sessions/{mine['id']}/links/{link['id']}"
            assert (await server.http.delete(url, headers=key(mine["token"]))).status_code == 204
            assert (await server.control(PAUSE, mine["id"], **key(link["token"]))).status_code == 401
            await until(lambda: len(server.services.viewers) == 0, "the viewer is out")
            await until(lambda: viewer.heard("error", code="unauthorized"), "why")
            assert (await server.http.delete(url, headers=key(mine["token"]))).status_code == 404


async def test_a_link_ends_by_itself_and_their_number_is_bounded() -> None:
    links = Links()
    link, token = links.make("viewer", 10.0, 100.0)
    assert links.find(hash_of(token), 109.9) is link
    assert links.find(hash_of(token), 110.0) is None
    for _ in range(MOST):
        links.make("viewer", 10.0, 200.0)
    with pytest.raises(InvalidInput, match="64 links"):
        links.make("viewer", 10.0, 200.0)
    links.make("viewer", 10.0, 210.0)


# ---- pages of other sites ----


@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost:9999", "null"])
async def test_pages_of_other_sites_may_not_change_anything(origin: str) -> None:
    async with live(config()) as server:
        for answer in (
            await server.control(PAUSE, Origin=origin),
            await server.http.post("/v1/sessions", json={"prompt": "x"}, headers={"Origin": origin}),
            await server.http.post("/v1/sessions/main/whep", headers={"Origin": origin}),
            await server.http.delete("/v1/sessions/main", headers={"Origin": origin}),
        ):
            assert (answer.status_code, answer.json()["field"]) == (403, "Origin")
            assert "access-control-allow-origin" not in answer.headers
        seen = await server.http.get("/v1/sessions/main", headers={"Origin": origin})
        assert "access-control-allow-origin" not in seen.headers  # the browser hides it from the page


async def test_our_own_page_may() -> None:
    async with live(config()) as server:
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


async def test_any_site_is_allowed_if_configured() -> None:
    async with live(config(origins=("*",))) as server:
        assert (await server.control(PAUSE, Origin="https://any.example")).status_code == 202


async def test_on_loopback_only_local_names_are_answered() -> None:
    """Otherwise a site whose name points to 127.0.0.1 would count as our own page."""
    async with live(config()) as server:
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
