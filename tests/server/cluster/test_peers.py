"""Which gateway has a session, as its id and the roster say."""

from __future__ import annotations

from engine.types import SessionClosed
from server.cluster.messages import GatewayEntry, Roster
from server.cluster.peers import GONE_S, SETTLE_S, UNKNOWN, Peers
from tests.rigs.engine.fakes import ManualClock


def roster(*names: str, main: str = "g1", settled: bool = True, **moved: str) -> Roster:
    gateways = tuple(GatewayEntry(name, f"http://{name}") for name in names)
    return Roster(
        gateways=gateways,
        main=main,
        moved={k.replace("_", "-"): v for k, v in moved.items()},
        settled=settled,
    )


def settled(name: str = "g1") -> tuple[Peers, ManualClock]:
    """A gateway that has been running for a while, and its clock."""
    clock = ManualClock()
    peers = Peers(name, b"key", clock)
    clock.now_s += SETTLE_S
    return peers, clock


def test_a_gateway_alone_has_everything_and_plain_ids() -> None:
    peers = Peers()
    assert not peers
    assert peers.new_id("abc") == "abc"
    assert [peers.owner_of(each) for each in ("main", "g2-abc", "abc")] == [None] * 3
    assert peers.gateway_of("g2-abc") is None
    assert peers.opens_main


def test_a_gateway_that_has_just_lost_main_does_not_open_another_one() -> None:
    """The roster that names it may be older than the claim. Two of them ran, and the older one ended."""
    peers, clock = settled()
    peers.update(roster("g1", "g2", main="g1"))
    assert peers.opens_main
    peers.heard(SessionClosed("main", "fenced", "another gateway has it"))
    peers.update(roster("g1", "g2", main="g1"))
    assert not peers.opens_main
    clock.now_s += SETTLE_S
    assert peers.opens_main
    peers.heard(SessionClosed("main", "worker_lost", "it has ended"))
    assert peers.opens_main


def test_an_id_names_its_gateway() -> None:
    peers, _ = settled()
    peers.update(roster("g1", "g2"))
    assert peers.new_id("abc") == "g1-abc"
    assert (peers.owner_of("g2-abc"), peers.gateway_of("g2-abc")) == ("g2", "g2")
    assert (peers.owner_of("g1-abc"), peers.gateway_of("g1-abc")) == (None, None)
    assert peers.url_of("g2") == "http://g2"
    for odd in ("abc", "main-abc", "G2-abc", "2g-abc", "-abc", "a" * 17 + "-abc", "g2"):
        assert peers.owner_of(odd) is None, odd
        assert peers.gateway_of(odd) is None, odd


def test_a_session_that_has_moved_belongs_to_whoever_the_roster_names() -> None:
    peers, _ = settled()
    peers.update(roster("g1", "g2", "g3", g2_abc="g3", g1_abc="g2", g2_mine="g1"))
    assert peers.owner_of("g2-abc") == "g3"
    assert peers.owner_of("g1-abc") == "g2"
    assert peers.owner_of("g2-mine") is None
    peers.update(roster("g1", "g2", "g3"))
    assert peers.owner_of("g2-abc") == "g2"


def test_main_is_always_somewhere() -> None:
    peers, _ = settled()
    assert peers.owner_of("main") == UNKNOWN
    assert not peers.opens_main
    peers.update(roster("g1", "g2", main="g2"))
    assert peers.owner_of("main") == "g2"
    peers.update(roster("g1", "g2", main="g1"))
    assert peers.owner_of("main") == UNKNOWN  # about to be opened here
    assert peers.opens_main


def test_a_session_that_was_just_taken_over_is_with_somebody() -> None:
    peers, clock = settled()
    peers.update(roster("g1", "g2"))
    peers.heard(SessionClosed("g1-taken", "fenced", ""))
    peers.heard(SessionClosed("g1-ended", "closed", ""))
    assert peers.owner_of("g1-taken") == UNKNOWN
    assert peers.owner_of("g1-ended") is None
    peers.update(roster("g1", "g2", g1_taken="g2"))
    assert peers.owner_of("g1-taken") == "g2"
    peers.heard(SessionClosed("g1-again", "fenced", ""))
    clock.now_s += SETTLE_S
    assert peers.owner_of("g1-again") is None


def test_a_gateway_that_has_just_started_does_not_deny_its_sessions() -> None:
    """It may have been killed, and its workers still hold them."""
    clock = ManualClock()
    peers = Peers("g1", b"key", clock)
    assert peers.owner_of("g1-abc") == UNKNOWN
    peers.heard(SessionClosed("g1-ended", "closed", ""))
    assert peers.owner_of("g1-ended") is None
    clock.now_s += SETTLE_S
    assert peers.owner_of("g1-abc") is None


def test_sessions_of_a_gateway_that_is_away_are_expected_back_for_a_while() -> None:
    peers, clock = settled()
    peers.update(roster("g1", "g2"))
    clock.now_s += 1000.0
    peers.update(roster("g1"))
    assert peers.owner_of("g2-abc") == "g2"
    assert peers.url_of("g2") is None
    clock.now_s += GONE_S + 1
    peers.update(roster("g1"))
    assert peers.owner_of("g2-abc") is None
    assert peers.gateway_of("g2-abc") is None
    assert peers.owner_of("never-abc") is None


def test_a_directory_that_has_just_started_makes_nobody_forgotten() -> None:
    peers, _ = settled()
    peers.update(roster("g1", "g2", g1_abc="g2", main="g2"))
    peers.update(roster("g1", main="", settled=False))
    assert (peers.owner_of("g1-abc"), peers.owner_of("main"), peers.url_of("g2")) == ("g2", "g2", "http://g2")
    peers.update(roster("g1", main=""))
    assert (peers.owner_of("g1-abc"), peers.owner_of("main"), peers.url_of("g2")) == (None, UNKNOWN, None)


def test_an_id_that_no_gateway_makes_is_nobodys() -> None:
    """Workers were asked about it, which answer nothing to that, so it kept a place for two seconds."""
    peers, _ = settled()
    peers.update(roster("g1", "g2"))
    assert peers.owner_of("g2-abc") == peers.gateway_of("g2-abc") == "g2"
    for odd in ("g2-\n", "g2-a/../b", "g2-a b", "g2-é", "g2-" + "x" * 62, "g2-+", "G2-a"):
        assert peers.owner_of(odd) is None
        assert peers.gateway_of(odd) is None
