"""Behind a proxy: every link starts with its prefix, whether the proxy strips it or not, and which proxies
are trusted."""

from __future__ import annotations

import pytest
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from engine.errors import InvalidInput
from server.http.edge.prefix import checked_prefix
from server.http.listener import trusted_proxies
from tests.rigs.server.server_rig import SDP, config, live, watcher

FORWARDED = {"X-Forwarded-Prefix": "/video"}


@pytest.mark.parametrize("path", ["/v1/sessions/main", "/video/v1/sessions/main"])
@pytest.mark.parametrize("by", ["option", "header"])
async def test_all_links_carry_the_prefix(path: str, by: str) -> None:
    settings = config(root_path="/video" if by == "option" else "")
    headers = FORWARDED if by == "header" else {}
    async with live(settings) as server:
        server.http.headers.update(headers)
        told = (await server.http.get(path)).json()
        assert told["whep"] == "/video/v1/sessions/main/whep"
        assert told["controls"] == "/video/v1/sessions/main/controls"
        root = path.removesuffix("/main")
        new = await server.http.post(root, json={"prompt": "a fox"})
        assert new.headers["location"] == f"/video/v1/sessions/{new.json()['id']}"
        assert new.json()["page"].startswith("http://localhost/video/?session=")
        async with watcher() as viewer:
            joined = await server.http.post(f"{root}/main/whep", content=await viewer.offer(), headers=SDP)
            assert joined.headers["location"].startswith("/video/v1/sessions/main/whep/")
            assert (await server.http.delete(joined.headers["location"])).status_code in (200, 204)


async def test_the_page_is_served_below_the_prefix_with_a_trailing_slash() -> None:
    async with live(config(root_path="/video")) as server:
        assert (await server.http.get("/video/")).status_code == 200
        assert (await server.http.get("/video/livez")).status_code == 200
        bare = await server.http.get("/video")
        assert (bare.status_code, bare.headers["location"]) == (307, "/video/")
        assert (await server.http.get("/")).status_code == 200  # from a proxy that strips the prefix
        assert (await server.http.get("/videos/")).status_code == 404


@pytest.mark.parametrize(
    "odd", ["//evil.example", "/a/../b", "video", "/a b", "/<script>", "/a//b", "/" + "x" * 99]
)
async def test_a_prefix_that_is_none_is_ignored_in_a_header_and_refused_as_an_option(odd: str) -> None:
    with pytest.raises(InvalidInput, match="--root-path"):
        checked_prefix(odd)
    async with live() as server:
        told = await server.http.get("/v1/sessions/main", headers={"X-Forwarded-Prefix": odd})
        assert told.json()["whep"] == "/v1/sessions/main/whep"


def test_a_prefix_may_end_in_a_slash() -> None:
    assert [checked_prefix(text) for text in ("/video/", "/a/b", "/", "")] == ["/video", "/a/b", "", ""]


@pytest.mark.parametrize(
    ("given", "peer", "believed"),
    [
        (None, "127.0.0.1", True),
        (None, "::1", True),
        (None, "::ffff:127.0.0.1", True),  # --host :: and a proxy on this machine
        (None, "10.0.0.7", False),
        ("10.0.0.0/8", "::ffff:10.0.0.7", True),
        ("10.0.0.0/8", "::ffff:127.0.0.1", False),
        ("10.0.0.7", "10.0.0.7", True),
        ("*", "192.0.2.1", True),
    ],
)
def test_proxies_are_believed_in_either_form_of_their_address(
    given: str | None, peer: str, believed: bool
) -> None:
    environment = {} if given is None else {"FORWARDED_ALLOW_IPS": given}

    async def app(*_: object) -> None: ...

    trusted = ProxyHeadersMiddleware(app, trusted_proxies(environment)).trusted_hosts
    assert (peer in trusted) == believed
