"""What operators drain, and what members remember of it for a directory that starts again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.errors import InvalidInput, Unavailable
from server.cluster import drains
from server.cluster.messages import JoinGateway, JoinWorker
from server.cluster.placement.placement import Members
from tests.server.cluster.members import G1, W1, W2, Directory, four


@pytest.fixture
def there() -> Directory:
    return four()


def test_hosts_are_drained_until_they_are_taken_back(there: Directory) -> None:
    there.tables.drain("host-a")
    assert [w.draining for w in there.tables.roster().workers] == [True, False]
    there.join(JoinWorker("w3", "tcp://10.0.0.7:7071", "host-a"))
    assert [w.draining for w in there.tables.roster().workers] == [True, False, True]
    there.tables.take_back("host-a")
    there.tables.take_back("unheard-of")
    assert not any(w.draining for w in there.tables.roster().workers)


def test_a_drain_is_known_after_a_restart_from_the_workers() -> None:
    there = Directory()
    there.join(replace(W1, draining=True), W2)
    assert [w.draining for w in there.tables.roster().workers] == [True, False]


def test_a_drain_is_known_after_a_restart_from_the_gateways() -> None:
    """Also of a host whose workers are gone, and of a single worker."""
    there = Directory()
    there.join(replace(G1, drained=("host-a", "host-z"), drained_workers=("w2",)))
    there.join(W1, W2)
    roster = there.tables.roster()
    assert [w.draining for w in roster.workers] == [True, True]
    assert [w.retired for w in roster.workers] == [False, True]
    assert (roster.drained, roster.drained_workers) == (("host-a", "host-z"), ("w2",))


def test_a_member_that_was_away_does_not_bring_back_a_drain_that_has_ended(there: Directory) -> None:
    there.tables.drain("host-a")
    there.tables.drain_worker("w2")
    there.tables.take_back("host-a")
    there.tables.take_back_worker("w2")
    for again in (replace(W1, draining=True), replace(G1, drained=("host-a",), drained_workers=("w2",))):
        there.tables.gone(again.name)
        there.tables.join(f"{again.name} again", again)
    assert not any(w.draining for w in there.tables.roster().workers)
    there.tables.drain("host-a")  # and that counts again
    assert there.tables.roster().drained == ("host-a",)


def test_a_worker_alone_is_drained_whatever_placement_does(there: Directory) -> None:
    there.tables.drain_worker("w1")
    there.tables.retire("w2")
    assert [(w.draining, w.retired) for w in there.tables.roster().workers] == [(True, True)] * 2
    joined = Members(there.tables).joined()
    assert {name: worker.draining for name, worker in joined.items()} == {"w1": False, "w2": True}
    there.tables.keep("w1")
    assert there.tables.roster().workers[0].draining
    there.tables.drain("host-a")
    assert not there.tables.roster().workers[0].retired
    assert Members(there.tables).joined()["w1"].draining
    there.tables.take_back("host-a")
    there.tables.take_back_worker("w1")
    assert not there.tables.roster().workers[0].draining


def test_what_is_drained_is_bounded(there: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drains, "MAX_DRAINED", 2)
    for host in ("a", "b"):
        there.tables.drain(host)
    there.tables.drain("a")
    with pytest.raises(Unavailable, match="2 hosts are drained, which is the most"):
        there.tables.drain("c")
    there.tables.gone("g1")
    there.tables.join("g1 again", replace(G1, drained=("d", "e")))
    assert there.tables.roster().drained == ("a", "b")
    for number in range(5):
        there.tables.take_back(f"h{number}")
    assert len(there.tables._drained._ended) == 2
    with pytest.raises(InvalidInput):
        there.tables.drain_worker("Not A Worker")
    with pytest.raises(InvalidInput):
        there.tables.join("g3", JoinGateway("g3", "http://a:1", "5", drained=("",)))
