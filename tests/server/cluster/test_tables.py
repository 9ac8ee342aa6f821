"""The directory's tables: who is there, who has which session, and what time does to that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.errors import InvalidInput, Unavailable
from engine.types import Capacity
from server.cluster import drains, owners, tables
from server.cluster.messages import (
    ClientUse,
    CopyEntry,
    GatewayReport,
    JoinGateway,
    JoinWorker,
    WorkerReport,
)
from server.cluster.tables import NameTaken, for_members
from tests.server.cluster.members import G1, G2, W1, Directory, four


@pytest.fixture
def there() -> Directory:
    return four()


def test_members_are_told_of_each_other(there: Directory) -> None:
    roster = there.tables.roster()
    assert there.names == ["w1", "w2", "g1", "g2"]
    assert (roster.workers[0].url, roster.gateways[1].url) == (W1.url, G2.url)
    assert all(w.ready for w in roster.workers)
    assert all(g.ready for g in roster.gateways)


def test_figures_are_for_those_who_watch(there: Directory) -> None:
    there.tables.report("w1", WorkerReport(Capacity(6, 2, 0.25), 2))
    there.tables.report("g1", GatewayReport(5))
    full = there.tables.roster()
    assert (full.workers[0].sessions, full.workers[0].capacity) == (2, Capacity(6, 2, 0.25))
    assert full.gateways[0].sessions == 5
    told = for_members(full)
    assert (told.workers[0].sessions, told.workers[0].capacity, told.gateways[0].sessions) == (0, None, 0)


def test_who_is_silent_is_not_ready_and_then_dropped(there: Directory) -> None:
    del there.reports["w1"]
    assert there.passes(2.75) == []
    assert there.tables.roster().workers[0].ready
    assert there.passes(1) == []
    assert not there.tables.roster().workers[0].ready
    assert there.passes(3) == ["w1"]  # its connection is to be closed
    assert there.names == ["w2", "g1", "g2"]


def test_who_comes_back_in_time_was_never_away(there: Directory) -> None:
    there.tables.gone("w1")
    there.passes(1.5)
    assert not there.tables.roster().workers[0].ready
    there.tables.join("w1 again", W1)
    there.reports["w1 again"] = there.reports.pop("w1")
    there.passes(10)
    assert "w1" in there.names
    there.tables.gone("w1 again")
    there.passes(2)
    assert "w1" not in there.names


@pytest.mark.parametrize("first", [W1, G1])
def test_a_name_belongs_to_one_process_as_long_as_it_lives(first: JoinWorker | JoinGateway) -> None:
    there = Directory()
    there.join(first)
    other = replace(first, instance="another")
    with pytest.raises(NameTaken, match="give --name"):
        there.tables.join("other", other)
    del there.reports[first.name]
    there.passes(3.5)
    there.tables.join("other", other)  # the first one is silent
    there.tables.report(first.name, WorkerReport(sessions=7))  # and says nothing that counts any more
    assert there.tables.roster().workers[0:1] == () or there.tables.roster().workers[0].sessions == 0
    there.tables.gone("other")
    there.tables.join("third", replace(first, instance="a third"))  # its connection is closed


def test_it_says_when_members_may_be_missing() -> None:
    there = Directory()
    assert not there.tables.roster().settled
    there.passes(3)
    assert there.tables.roster().settled


# ---- sessions ----


def test_sessions_that_moved_are_named_with_their_gateway(there: Directory) -> None:
    there.reports["g2"] = GatewayReport(2, ("g1-abc",))
    there.passes(0.25)
    assert there.tables.roster().moved == {"g1-abc": "g2"}
    there.join(JoinGateway("g3", "http://10.0.0.9:8080"))
    there.reports["g3"] = GatewayReport(1, ("g1-abc",))  # it has claimed it since
    there.passes(0.25)
    assert there.tables.roster().moved == {"g1-abc": "g3"}
    there.reports["g3"] = GatewayReport()
    there.passes(0.25)
    assert there.tables.roster().moved == {"g1-abc": "g2"}
    del there.reports["g2"]
    there.passes(6.5)
    assert there.tables.roster().moved == {}


def test_of_sessions_that_two_gateways_have_the_right_copy_is_named(there: Directory) -> None:
    there.reports["g1"] = GatewayReport(2, copies={"g1-abc": CopyEntry(5, "b"), "g2-x": CopyEntry(1)})
    there.reports["g2"] = GatewayReport(1, copies={"g1-abc": CopyEntry(5, "a"), "main": CopyEntry(1)})
    there.passes(0.25)
    assert for_members(there.tables.roster()).copies == {"g1-abc": CopyEntry(5, "b", "g1")}
    there.reports["g2"] = GatewayReport(1, copies={"g1-abc": CopyEntry(6, "a", "g9")})
    there.passes(0.25)
    assert there.tables.roster().copies == {"g1-abc": CopyEntry(6, "a", "g2")}
    del there.reports["g1"]
    there.passes(3.5)  # nothing is heard of it
    assert there.tables.roster().copies == {}
    for wrong in (CopyEntry(-1), CopyEntry(1 << 60), CopyEntry(1, "x" * 65)):
        with pytest.raises(InvalidInput, match="copies"):
            there.tables.report("g2", GatewayReport(copies={"g1-abc": wrong}))


def test_the_gateway_that_has_main_is_named_and_kept(there: Directory) -> None:
    there.reports["g2"] = GatewayReport(1, ("main",))
    there.passes(10)
    roster = there.tables.roster()
    assert (roster.main, roster.moved) == ("g2", {})


def test_somebody_is_appointed_if_nobody_has_main_for_three_seconds(there: Directory) -> None:
    there.passes(2.5)
    assert there.tables.roster().main == ""
    there.passes(1)
    assert there.tables.roster().main == "g1"
    there.reports["g1"] = GatewayReport(1, ("main",))
    there.passes(1)
    there.tables.gone("g1")
    del there.reports["g1"]
    there.passes(2.25)
    assert there.tables.roster().main == ""  # another one may claim it from its worker
    there.reports["g2"] = GatewayReport(1, ("main",))
    there.passes(0.25)
    assert there.tables.roster().main == "g2"


def test_who_was_appointed_and_dies_is_replaced(there: Directory) -> None:
    there.passes(3.5)
    assert there.tables.roster().main == "g1"
    del there.reports["g1"]
    there.passes(10)
    assert there.tables.roster().main == "g2"


def test_a_session_is_counted_where_it_was_claimed_last(there: Directory) -> None:
    there.reports["g1"] = GatewayReport(1, ("main",))
    there.passes(1)
    there.reports["g2"] = GatewayReport(1, ("main",))  # g1 has not heard of that yet
    there.passes(1)
    assert there.tables.roster().main == "g2"
    there.reports["g1"] = GatewayReport()
    there.passes(1)
    assert there.tables.roster().main == "g2"


# ---- clients ----


def test_gateways_are_told_what_clients_have_elsewhere(there: Directory) -> None:
    there.tables.report("g1", GatewayReport(2, (), {"a": 0.5, "b": 1.0}, {"a": 2}))
    there.tables.report("g1", GatewayReport(2, (), {"a": 0.25}, {"a": 1}))
    assert there.tables.elsewhere("g2") == {"b": ClientUse(0, 1.0), "a": ClientUse(1, 0.75)}
    assert there.tables.elsewhere("g2") == {"a": ClientUse(1, 0.0)}
    assert there.tables.elsewhere("g1") == {}
    assert there.tables.elsewhere("w1") == {}


def test_what_a_client_used_is_not_forgotten_when_a_gateway_reconnects(there: Directory) -> None:
    there.tables.gone("g2")
    there.tables.report("g1", GatewayReport(1, (), {"a": 0.5}, {}))
    there.tables.join("g2 again", G2)
    assert there.tables.elsewhere("g2 again") == {"a": ClientUse(0, 0.5)}


# ---- bounds ----


def test_the_tables_are_bounded(there: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_WORKERS", 3)
    monkeypatch.setattr(tables, "MAX_GATEWAYS", 2)
    monkeypatch.setattr(drains, "MAX_DRAINED", 2)
    monkeypatch.setattr(tables, "MAX_CLIENTS", 5)
    monkeypatch.setattr(owners, "MAX_MOVED", 5)
    there.join(JoinWorker("w3", "tcp://10.0.0.9:7070", "host-c"))
    for message in (JoinWorker("w4", "tcp://h:1", "h"), JoinGateway("g3", "http://h:1")):
        with pytest.raises(Unavailable, match="which is the most"):
            there.tables.join("x", message)
    there.tables.join("w1 again", W1)
    there.tables.drain("a")
    there.tables.drain("b")
    with pytest.raises(Unavailable, match="take some back"):
        there.tables.drain("c")
    many = [f"c{n}" for n in range(20)]
    there.reports["g1"] = GatewayReport(20, tuple(f"g9-{n}" for n in many), dict.fromkeys(many, 1.0), {})
    there.passes(1)
    assert len(there.tables.roster().moved) == 5
    assert len(there.tables.elsewhere("g2")) == 5
    there.reports["g1"] = GatewayReport(2, ("g9-x", "g9-y"))
    there.passes(0.5)
    assert there.tables.roster().moved == {"g9-x": "g1", "g9-y": "g1"}


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (replace(W1, name="W1"), "name"),
        (replace(W1, name="-w"), "name"),
        (replace(W1, name=""), "name"),
        (replace(W1, name="w" * 64), "name"),
        (replace(W1, url="http://10.0.0.7"), "url"),
        (replace(W1, url="tcp://" + "h" * 200 + ":1"), "url"),
        (replace(W1, host=""), "host"),
        (replace(W1, host="a\n"), "host"),
        (replace(W1, labels={f"l{n}": "x" for n in range(9)}), "labels"),
        (replace(W1, labels={"gpu": "x" * 33}), "labels"),
        (replace(W1, instance="x" * 33), "instance"),
        (replace(G1, name="1g"), "name"),
        (replace(G1, name="g-1"), "name"),
        (replace(G1, name="g" * 17), "name"),
        (replace(G1, url="tcp://10.0.0.5:8080"), "advertise"),
        (replace(G1, url="http://user@10.0.0.5:8080"), "advertise"),
        (replace(G1, url="http://["), "advertise"),
    ],
)
def test_who_says_nonsense_does_not_join(message: JoinWorker | JoinGateway, field: str) -> None:
    there = Directory()
    with pytest.raises(InvalidInput) as refused:
        there.tables.join("x", message)
    assert refused.value.field == field
    assert there.names == []


@pytest.mark.parametrize(
    "report",
    [
        WorkerReport(None, -1),
        WorkerReport(Capacity(-1, 0, 0.0)),
        GatewayReport(-1),
        GatewayReport(1, ("x" * 65,)),
        GatewayReport(1, ("",)),
        GatewayReport(1, (), {"a": -1.0}),
        GatewayReport(1, (), {"a\x1b": 1.0}),
        GatewayReport(1, (), {}, {"a": -1}),
    ],
)
def test_a_report_of_nonsense_is_refused(there: Directory, report: GatewayReport | WorkerReport) -> None:
    with pytest.raises(InvalidInput):
        there.tables.report("g1", report)
