"""Odd paths, queries and headers of clients, at the gateway that does not have the session."""

from __future__ import annotations

import asyncio
import logging

import pytest

from server.cluster.messages import GatewayEntry, Roster
from server.http.edge.vouching import HEADER, Passed, vouch
from tests.rigs.server.cluster_rig import OWNER, Member, opened, two


async def raw(member: Member, target: bytes, *headers: bytes, method: bytes = b"GET") -> tuple[int, bytes]:
    """Status and body of the answer to a request that is sent as it is."""
    host, _, port = member.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [method + b" " + target + b" HTTP/1.1", b"Host: " + host.encode(), b"Connection: close", *headers]
    writer.write(b"\r\n".join(lines) + b"\r\n\r\n")
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


QUERIES = (
    b"a=b|c",
    b'x="1"&y=<>^`{}',
    b"q=%20%zz%",
    b"a=1?b=2",
    b"a='b'",
    b"q=[1]&\\",
    b"q=%ff",
    b"q=\xff\xc3\xa9",
    b"a" * 8000,
)


async def test_queries_reach_the_other_gateway_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    """It took them for forged: they had been written in another way than they were vouched for."""
    async with two() as (g1, g2):
        session, own = await opened(g1)
        auth = f"Authorization: {own['Authorization']}".encode()
        for query in QUERIES:
            target = f"/v1/sessions/{session}?".encode() + query
            first, second = await raw(g1, target, auth), await raw(g2, target, auth)
            assert first[0] == second[0], (query, first, second)
            assert first[0] in (200, 400), (query, first)
    assert not [r for r in caplog.records if r.exc_info]


async def test_paths_that_lead_elsewhere_lead_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    async with two() as (g1, g2):
        session, own = await opened(g1)
        auth = f"Authorization: {own['Authorization']}".encode()
        for path in (
            f"/v1/sessions/{session}/../main",
            f"/v1/sessions/{session}/../../../metrics",
            f"/v1/sessions/{session}%2F..%2F..%2F..%2Fmetrics",
            f"/v1/sessions/{session}/..%2f..",
            f"/v1/sessions/{session}//x",
            f"/v1/sessions/{session}%00",
            f"/v1/sessions/{session}%0d%0aX-Injected:%201",
            f"/v1/sessions/{session}/whep/..%2f..%2f..%2fmetrics",
            "/v1/sessions/g1-%0a",
            "/v1/sessions/g1-%ff",
            "/v1/sessions/g1-" + "x" * 9000,
        ):
            for member in (g1, g2):
                status, body = await raw(member, path.encode(), auth)
                assert status == 404, (path, status, body)
                assert b"psistream_" not in body
    assert not [r for r in caplog.records if r.exc_info]


async def test_nobody_waits_for_a_session_whose_id_no_gateway_makes() -> None:
    """Each such request kept one of the places of sessions that are looked for."""
    async with two() as (_, g2):
        sdp = b"Content-Type: application/sdp"
        for number in range(3):
            target = b"/v1/sessions/g1-%%0a%d/whep" % number
            status, _ = await raw(g2, target, sdp, b"Content-Length: 0", method=b"POST")
            assert status in (401, 404)
            assert len(g2.gateway.guests) == 0


async def test_headers_that_vouch_are_believed_from_gateways_only() -> None:
    async with two() as (g1, g2):
        session, own = await opened(g1)
        auth, target = f"Authorization: {own['Authorization']}".encode(), f"/v1/sessions/{session}".encode()
        forged = vouch(b"no key", Passed("192.0.2.99", "https"), "GET", target, 1.8e9).encode()
        for value in (forged, b"", b"x", b"1 http 192.0.2.9 " + b"0" * 64, b"\xff" * 600, b"9" * 5000):
            for name in (HEADER.encode(), HEADER.upper().encode()):
                for member in (g1, g2):
                    assert (await raw(member, target, auth, name + b": " + value))[0] == 403
        twice = await raw(g2, target, auth, f"{HEADER}: x".encode(), f"{HEADER}: y".encode())
        assert twice[0] == 403
        # other spellings are other headers, and reach nobody who believes them
        assert (await raw(g2, target, auth, b"X_Psistream_Passed: " + forged))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        (b"Content-Length: 5", b"Content-Length: 6"),
        (b"Content-Length: -1",),
        (b"Content-Length: 99999999999999999999",),
        (b"Transfer-Encoding: chunked, identity",),
        (b"X: a\x00b",),
    ],
)
async def test_bodies_of_two_lengths_are_refused_where_they_come_in(headers: tuple[bytes, ...]) -> None:
    async with two() as (g1, g2):
        session, _ = await opened(g1)
        target = f"/v1/sessions/{session}/controls".encode()
        for member in (g1, g2):
            status, _ = await raw(member, target, *headers, method=b"POST")
            assert status in (400, 401, 411, 413, 501), (headers, status)


async def test_a_length_beside_chunks_does_not_count() -> None:
    async with two() as (g1, g2):
        session, own = await opened(g1)
        target, body = f"/v1/sessions/{session}/controls".encode(), b'{"type":"pause"}'
        auth = f"Authorization: {own['Authorization']}".encode()
        for member in (g1, g2):
            chunks = b"\r\n\r\n%x\r\n%s\r\n0" % (len(body), body)
            headers = (b"Content-Type: application/json", b"Content-Length: 5", auth)
            status, answer = await raw(
                member, target, *headers, b"Transfer-Encoding: chunked" + chunks, method=b"POST"
            )
            assert status in (202, 400), answer


@pytest.mark.parametrize("url", ["http://a b/", "http://[::1", "http://\u00e4\u00df..x", "http://x:99999"])
async def test_an_address_that_is_none_costs_that_gateway_only(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The list of all sessions could not be had."""
    async with two() as (g1, g2):
        session, _ = await opened(g1)
        entries = (GatewayEntry("g1", g1.url), GatewayEntry("g2", g2.url), GatewayEntry("g3", url))
        g2.told(Roster((), entries, {}, "g1"))
        listed = (await g2.http.get("/v1/sessions", headers=OWNER)).json()
        assert session in {each["id"] for each in listed["sessions"]}
        assert list(listed["unanswered"]) == ["g3"]
        assert (await g2.http.get("/v1/sessions/g3-abc", headers=OWNER)).status_code == 503
    assert not [r for r in caplog.records if r.exc_info]


async def test_the_log_has_no_token_of_a_request_that_is_passed_on(caplog: pytest.LogCaptureFixture) -> None:
    """The HTTP client logs URLs, at --log-level info, and players of HLS have their tokens there."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="httpx")  # commands that ran in this process may have quieted it
    async with two() as (g1, g2):
        session, own = await opened(g1)
        token = own["Authorization"].removeprefix("Bearer ")
        target = f"/v1/sessions/{session}/hls/index.m3u8?token={token}".encode()
        assert (await raw(g2, target))[0] == (await raw(g1, target))[0]
        auth = f"Authorization: Bearer {token}".encode()
        assert (await raw(g2, f"/v1/sessions/{session}".encode(), auth))[0] == 200
    assert "HTTP Request" in caplog.text
    assert token not in caplog.text
