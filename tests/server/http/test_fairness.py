"""A client that floods the server only hurts itself: limits per token, session and address, for each kind of
request."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from server.http.limited_protocol import ConnectionLimits
from server.logs import FULL, PERIOD_S, FloodFilter
from server.ratelimit import MAX_NAMES, LayeredLimit, TokenBuckets
from tests.rigs.engine.fakes import ManualClock
from tests.rigs.server.rights_rig import KEY
from tests.rigs.server.server_rig import Live, config, live, until
from tests.rigs.server.tcp_rig import get, serving

EXPOSED = config(host="0.0.0.0", api_key=KEY, controls_per_s=2.0)


async def two(server: Live) -> tuple[dict[str, Any], dict[str, Any]]:
    """The sessions of two clients."""
    key = {"Authorization": f"Bearer {KEY}"}
    answers = [await server.http.post("/v1/sessions", json={"prompt": "a dog"}, headers=key) for _ in "ab"]
    first, second = (answer.json() for answer in answers)
    return first, second


def auth(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_client_over_its_share_takes_nothing_from_the_others() -> None:
    limit = LayeredLimit((1, 2), (1, 4), (2, 6), (4, 8))
    assert [limit.wait_s("t", "s", "a", 0.0) for _ in range(3)] == [0.0, 0.0, 1.0]
    for _ in range(100):
        limit.wait_s("t", "s", "a", 0.0)
    assert [limit.wait_s("u", "s", "a", 0.0) for _ in range(2)] == [0.0, 0.0]
    assert limit.wait_s("v", "s", "a", 0.0) > 0  # the session's share
    assert limit.wait_s("v", "r", "a", 0.0) == 0.0
    assert limit.wait_s("t", "s", "a", 1.0) == 0.0


def test_names_are_forgotten_before_they_cost_memory() -> None:
    shares = TokenBuckets(1.0, 1)
    for name in range(2 * MAX_NAMES):
        shares.bucket(str(name), 0.0)
    assert len(shares) == MAX_NAMES


@pytest.mark.parametrize(
    ("limit", "role", "enough"),
    [("controls", "token", 50), ("snapshot", "token", 20), ("whep", "view_token", 60)],
)
async def test_a_flood_to_one_session_does_not_affect_another(limit: str, role: str, enough: int) -> None:
    """37 of 40 controls for another session used to be refused."""
    async with live(EXPOSED, host="video.example") as server:
        mine, theirs = await two(server)

        async def knock(session: dict[str, Any]) -> int:
            url, headers = f"/v1/sessions/{session['id']}/{limit}", auth(session[role])
            if limit == "snapshot":
                return (await server.http.get(url, headers=headers)).status_code
            if limit == "controls":
                return (await server.http.post(url, json={"type": "pause"}, headers=headers)).status_code
            headers["Content-Type"] = "application/sdp"
            return (await server.http.post(url, content="v=0", headers=headers)).status_code

        flood = [await knock(mine) for _ in range(enough)]
        assert 429 in flood
        assert 429 not in [await knock(theirs) for _ in range(3)]


async def test_guessing_tokens_is_slowed_and_valid_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.http.fairness.DELAY_S", 0.0)
    monkeypatch.setattr("server.http.fairness.GUESSES_PER_S", 0.001)
    async with live(EXPOSED, host="video.example") as server:
        statuses = [
            (await server.http.get("/v1/sessions", headers=auth(f"guess-{i}"))).status_code for i in range(15)
        ]
        assert (statuses[0], statuses[-1]) == (401, 429)
        assert (await server.http.get("/v1/sessions", headers=auth(KEY))).status_code == 200


async def test_a_client_that_asks_without_end_is_slowed_but_health_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.http.fairness.DELAY_S", 0.0)
    monkeypatch.setattr("server.http.fairness.REQUESTS_BURST", 20)
    monkeypatch.setattr("server.http.fairness.REQUESTS_PER_S", 0.1)
    async with live() as server:
        statuses = [(await server.http.get("/v1/sessions/main")).status_code for _ in range(25)]
        assert statuses == [200] * 20 + [429] * 5
        assert (await server.http.get("/livez")).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_an_image_tag_of_another_site_uses_up_nothing(site: str) -> None:
    async with live() as server:
        for _ in range(30):
            answer = await server.http.get("/v1/sessions/main/snapshot", headers={"Sec-Fetch-Site": site})
            assert answer.status_code == 403
        await until(lambda: server.services.gateway.session("main").stats is not None, "the first segment")
        own = {"Sec-Fetch-Site": "same-origin"}
        assert (await server.http.get("/v1/sessions/main/snapshot", headers=own)).status_code == 200


@pytest.mark.parametrize("name", ["Origin", "Host"])
@pytest.mark.parametrize("value", ["http://[", "[", "a b", "http://a:x", "//", "\\", "@", "a/b?c#d"])
async def test_no_header_gives_a_500_or_a_traceback(
    name: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    for settings, host in ((config(), "localhost"), (EXPOSED, "video.example")):
        async with live(settings, host=host) as server:
            for method in ("GET", "POST", "OPTIONS"):
                for path in ("/", "/v1/sessions", "/v1/sessions/main/whep"):
                    answer = await server.http.request(method, path, headers={name: value})
                    assert answer.status_code < 500
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
async def test_an_id_with_a_slash_is_of_no_session(method: str) -> None:
    """The static page used to answer such a path with 405, and our page retried forever."""
    async with live() as server:
        for path in ("/v1/sessions/a%2Fb/whep", "/v1/sessions/a%2fb"):
            answer = await server.http.request(method, path)
            assert answer.status_code == 404


async def test_a_server_on_another_loopback_address_answers_to_its_own_name() -> None:
    for host in ("127.0.0.2", "localhost"):
        async with live(config(host="127.0.0.2"), host=host) as server:
            assert (await server.http.get("/readyz")).status_code == 200


async def test_hanging_up_in_mid_body_is_no_fault_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    """Each one used to log 8.8 kB of traceback."""
    async with serving(ConnectionLimits()) as port:
        for path in ("controls", "whep", "fork"):
            _, writer = await port.connect()
            kind = "application/sdp" if path == "whep" else "application/json"
            head = f"POST /v1/sessions/main/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
            writer.write(f"{head}Content-Length: 99\r\n\r\n{{".encode())
            await writer.drain()
            await until(lambda: any(not c.waits_for_client or c.cycle for c in port.connections), "request")
            writer.close()
            await until(lambda: len(port.connections) == 0, "end of the connection")
        assert (await port.ask(get("/livez")))[0] == 200
    assert "Traceback" not in caplog.text


def test_what_clients_can_cause_in_the_log_is_bounded() -> None:
    clock = ManualClock()
    flood = FloodFilter(clock)
    written: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: written.append(logging.Formatter().format(record))  # type: ignore[method-assign]
    handler.addFilter(flood)
    log = logging.Logger("flood")
    log.addHandler(handler)

    def fail(times: int) -> None:
        for i in range(times):
            try:
                raise ValueError(f"number {i}")
            except ValueError:
                log.exception("request %d failed", i)

    fail(1000)
    assert len(written) == FULL
    assert "Traceback" in written[0]
    assert written[1] == "request 1 failed (ValueError again)"
    clock.advance(PERIOD_S)
    fail(1)
    assert "995 similar entries were suppressed" in written[-1]
