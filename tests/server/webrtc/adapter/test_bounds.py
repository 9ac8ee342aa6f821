"""What one viewer can cost others is bounded: gaps, endless messages, streams, candidates and places."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from aiortc.rtcsctptransport import DataChunk, RTCSctpTransport

from engine.errors import Full
from server.webrtc.adapter.bounds import (
    LOOP_BURST_S,
    LOOP_SHARE,
    MAX_CANDIDATES,
    MAX_GAPS,
    LoopBudget,
    reachable,
)
from server.webrtc.fanout import Fanout
from server.webrtc.shares import OverShare, check_shares
from server.webrtc.viewer import Seat, Viewer
from tests.rigs.control.gateway import FakeSteering
from tests.rigs.engine.fakes import ManualClock
from tests.rigs.server.server_rig import SDP, Live, Watcher, config, live, until, watcher, watching


def viewer_of(server: Live, watcher: Watcher) -> Viewer:
    return server.services.viewers.get(watcher.location.rsplit("/", 1)[1], "main")


async def sctp_of(watcher: Watcher) -> RTCSctpTransport:
    await until(lambda: watcher.channel and watcher.channel.readyState == "open", "data channel")
    assert watcher.pc.sctp is not None
    return watcher.pc.sctp


def chunk(tsn: int, flags: int = 3, stream: int = 1) -> DataChunk:
    """A whole message by default; without flags a fragment from its middle."""
    made = DataChunk(flags=flags)
    made.tsn, made.stream_id, made.stream_seq, made.protocol = tsn % (1 << 32), stream, 0, 51
    made.user_data = b"x"
    return made


async def test_gaps_are_bounded_and_honest_viewers_are_still_received() -> None:
    """A viewer that left out every second number made each packet more expensive than the one before."""
    async with live() as server, watching(server) as viewer:
        ours = await sctp_of(viewer)
        theirs = viewer_of(server, viewer).pc.sctp
        assert theirs is not None
        start = ours._local_tsn
        for i in range(3 * MAX_GAPS):
            await ours._send_chunk(chunk(start + 2 * i + 1))
        await until(lambda: len(theirs._sack_misordered) == MAX_GAPS, "gaps")
        for i in range(MAX_GAPS + 1):
            await ours._send_chunk(chunk(start + 2 * i))
        await until(lambda: not theirs._sack_misordered, "end of the gaps")


@pytest.mark.parametrize("stream", [0, 1])
async def test_endless_messages_and_too_many_streams_end_the_connection(stream: int) -> None:
    async with live() as server, watching(server) as viewer:
        ours = await sctp_of(viewer)
        start = ours._local_tsn
        with contextlib.suppress(ConnectionError):
            for i in range(400):
                await ours._send_chunk(chunk(start + i, flags=0, stream=9 + stream * i))
                await asyncio.sleep(0)
        await until(lambda: len(server.services.viewers) == 0, "end of the viewer")
        await until(lambda: viewer.heard("error", code="overused"), "the reason")


def test_a_client_that_overuses_the_event_loop_is_closed_and_a_viewer_never_is() -> None:
    clock, told = ManualClock(), list[str]()
    budget = LoopBudget(told.append, clock)
    for _ in range(1000):
        clock.advance(1.0)
        budget.charge(LOOP_SHARE)
    assert not told
    for _ in range(100):
        budget.charge(LOOP_BURST_S / 50)
    assert len(told) == 1


@pytest.mark.parametrize(
    ("candidate", "client", "may"),
    [
        ("8.8.8.8", "9.9.9.9", True),
        ("10.0.0.5", "9.9.9.9", False),
        ("127.0.0.1", "9.9.9.9", False),
        ("169.254.169.254", "9.9.9.9", False),
        ("fd00::1", "2a00:1450::/64", False),
        ("10.0.0.5", "192.168.1.2", True),
        ("127.0.0.1", "192.168.1.2", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("192.168.1.2", "127.0.0.1", True),
        ("224.0.0.1", "127.0.0.1", False),
        ("255.255.255.255", "127.0.0.1", False),
        ("0.0.0.0", "127.0.0.1", False),
        ("::ffff:10.0.0.5", "9.9.9.9", False),
        ("nonsense", "127.0.0.1", False),
    ],
)
def test_candidates_are_of_the_clients_own_kind(candidate: str, client: str, may: bool) -> None:
    assert reachable(candidate, client) is may


async def test_candidates_have_a_total_and_a_rate() -> None:
    """2,816 of them delayed everybody by half a second of video."""
    async with live() as server, watching(server) as viewer:
        lines = [f"a=candidate:{i} 1 udp 1 127.0.0.1 {2000 + i} typ host" for i in range(30)]
        headers = {"Content-Type": "application/trickle-ice-sdpfrag"}
        statuses = []
        for _ in range(60):
            url, body = viewer.location, "\r\n".join(lines)
            statuses.append((await server.http.patch(url, content=body, headers=headers)).status_code)
        assert statuses[0] == 204
        assert 429 in statuses
        ice = viewer_of(server, viewer).pc.getTransceivers()[0].receiver.transport.transport
        assert len(ice._connection._remote_candidates) <= MAX_CANDIDATES


# ---- places ----


def seat(session: str = "s", token: str = "t", client: str = "9.9.9.9") -> Seat:
    fanout = Fanout(lambda viewers: None, lambda codec: None)
    return Seat(session, fanout, FakeSteering(), lambda frame: None, False, token, client)


def test_no_token_session_or_address_takes_all_places() -> None:
    crowd = [seat(client=f"9.9.9.{i}") for i in range(75)]
    with pytest.raises(OverShare, match="token has 75"):
        check_shares(crowd, seat(client="8.8.8.8"), 100)
    check_shares(crowd, seat(token="driver"), 100)
    crowd += [seat(token="u", client=f"9.9.8.{i}") for i in range(12)]
    with pytest.raises(OverShare, match="session has 87"):
        check_shares(crowd, seat(token="v"), 100)
    check_shares(crowd, seat("other", "v"), 100)
    household = [seat(f"s{i}", f"t{i}") for i in range(25)]
    with pytest.raises(OverShare, match="address has 25"):
        check_shares(household, seat("other", "v"), 100)
    check_shares(household, seat("other", "v", "8.8.8.8"), 100)


def test_few_places_and_places_of_this_machine_are_not_divided() -> None:
    check_shares([seat()] * 3, seat(), 4)
    check_shares([seat(f"s{i}", f"t{i}", "127.0.0.1") for i in range(90)], seat("a", "b", "127.0.0.1"), 100)
    with pytest.raises(Full):
        check_shares([seat()] * 4, seat(), 4)


async def test_offers_that_are_never_completed_occupy_no_places() -> None:
    """They occupied all 64 places for 15 s."""
    async with live(config(max_viewers=16)) as server:
        async with watcher() as idle:
            sdp = await idle.offer()
            for _ in range(20):
                answer = await server.http.post("/v1/sessions/main/whep", content=sdp, headers=SDP)
                assert answer.status_code in (201, 429)
            assert len(server.services.viewers) <= 8
        async with watching(server) as viewer:
            await viewer.frame()
