"""Methods: HEAD wherever there is GET, 405 with `Allow`, and API paths never fall through to the page."""

from __future__ import annotations

import pytest

from tests.rigs.server.server_rig import config, live

GETS = ("/livez", "/readyz", "/healthz", "/metrics", "/v1/sessions", "/v1/sessions/main", "/")


async def test_every_get_has_its_head() -> None:
    async with live() as server:
        for path in GETS:
            got, head = await server.http.get(path), await server.http.head(path)
            assert (head.status_code, head.content) == (got.status_code, b""), path
            assert head.headers["content-type"] == got.headers["content-type"], path
        for path in ("/v1/sessions/main/snapshot", "/v1/sessions/main/log"):
            assert (await server.http.head(path)).status_code in (200, 503)
        gone = await server.http.head("/v1/sessions/nobody")
        assert (gone.status_code, gone.content) == (404, b"")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST", "PATCH", "TRACE", "PROPFIND", "BREW"])
async def test_an_unsupported_method_gets_405_with_the_supported_ones(method: str) -> None:
    async with live() as server:
        answer = await server.http.request(method, "/livez")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
        assert answer.json()["code"] == "method_not_allowed"
        if method not in ("PATCH", "DELETE"):
            answer = await server.http.request(method, "/v1/sessions/main")
            assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE, GET, HEAD, PATCH")
        if method != "POST":
            answer = await server.http.request(method, "/v1/sessions/main/controls")
            assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "PUT"])
@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/nothing", "/v1/sessions/main/no", "/v1/index.html"])
async def test_an_api_path_that_is_none_is_never_the_page_s(method: str, path: str) -> None:
    async with live() as server:
        answer = await server.http.request(method, path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


async def test_the_operators_own_port_does_the_same() -> None:
    import httpx

    from server.http.app import create_ops_app

    async with live(config()) as server:
        transport = httpx.ASGITransport(create_ops_app(server.services))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as ops:
            assert (await ops.head("/readyz")).status_code == 200
            assert (await ops.put("/metrics")).headers["allow"] == "GET, HEAD"
