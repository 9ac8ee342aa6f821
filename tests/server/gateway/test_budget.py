"""Limits per client: sessions, device time, and that other clients are not affected."""

from __future__ import annotations

from random import Random

import httpx
import pytest

from engine.types import SessionClosed, Stall
from server.cluster.messages import ClientUse
from server.config import ServerConfig
from server.gateway.budget import MAX_NAMES, Budgets, OverBudget, device_s
from server.http.auth import client_name
from server.worker.messages.commands import SetViewers
from server.worker.messages.events import SegmentStats, Stalled
from tests.rigs.engine.fakes import ManualClock
from tests.rigs.server.server_rig import FakeWorker, config, gateway, join, live, until


def test_a_client_has_a_share_of_sessions_and_gets_a_place_back() -> None:
    budgets = Budgets(2, 0.0, ManualClock())
    budgets.enter("a")
    budgets.enter("a")
    with pytest.raises(OverBudget, match="2 sessions open"):
        budgets.enter("a")
    budgets.enter("b")
    budgets.leave("a")
    budgets.enter("a")


def test_no_client_and_0_mean_no_limit() -> None:
    budgets = Budgets(0, 0.0, ManualClock())
    for _ in range(100):
        budgets.enter("a")
        budgets.enter(None)
    budgets.spend("a", 1e6)
    assert not budgets.over("a")
    limited = Budgets(1, 1.0, ManualClock())
    for _ in range(3):
        limited.enter(None)
        limited.spend(None, 9.0)
    assert not limited.over(None)


def test_sessions_at_other_gateways_count() -> None:
    budgets = Budgets(3, 0.0, ManualClock())
    budgets.enter("a")
    budgets.elsewhere({"a": ClientUse(2, 0.0), "b": ClientUse(1, 0.0)})
    with pytest.raises(OverBudget, match="3 sessions open"):
        budgets.enter("a")
    budgets.enter("b")
    budgets.elsewhere({"a": ClientUse(1, 0.0)})
    budgets.enter("a")
    assert budgets.report() == ({}, {"a": 2, "b": 1})


def test_device_time_at_other_gateways_is_charged_once() -> None:
    clock = ManualClock()
    budgets = Budgets(0, 30.0, clock)
    budgets.spend("a", 10.0)
    budgets.spend("a", 2.0)
    assert budgets.report()[0] == {"a": 12.0}
    budgets.elsewhere({"a": ClientUse(1, 17.0)})
    assert not budgets.over("a")
    budgets.elsewhere({"a": ClientUse(1, 2.0), "new": ClientUse(1, 31.0)})
    assert budgets.over("a")
    assert budgets.over("new")
    assert budgets.report()[0] == {}  # the others know what was used there
    with pytest.raises(OverBudget):
        budgets.enter("new")


def test_one_share_is_counted_the_same_at_every_gateway() -> None:
    """Three gateways that tell each other what their clients use, as the directory does."""
    clock = ManualClock()
    gateways = [Budgets(4, 60.0, clock) for _ in range(3)]
    random = Random(0)
    spent = 0.0
    for _ in range(40):
        for each in gateways:
            seconds = random.uniform(0.0, 0.9)
            each.spend("a", seconds)
            spent += seconds
        reports = [each.report() for each in gateways]
        for n, each in enumerate(gateways):
            others = [report for m, report in enumerate(reports) if m != n]
            used = sum(used.get("a", 0.0) for used, _ in others)
            each.elsewhere({"a": ClientUse(sum(open_.get("a", 0) for _, open_ in others), used)})
        assert len({each.over("a") for each in gateways}) == 1
        clock.advance(0.1)
    assert spent > 50
    assert len({round(each.back_in_s("a"), 6) for each in gateways}) == 1


def test_a_session_that_is_taken_over_counts_even_beyond_the_share() -> None:
    budgets = Budgets(1, 1.0, ManualClock())
    budgets.spend("a", 9.0)
    budgets.elsewhere({"a": ClientUse(1, 0.0)})  # the gateway that died is still counted
    budgets.continued("a", 0.0)
    budgets.continued(None, 0.0)
    assert budgets.report()[1] == {"a": 1}


def test_device_time_refills_evenly_and_half_of_it_releases_a_client() -> None:
    clock = ManualClock()
    budgets = Budgets(0, 30.0, clock)
    budgets.enter("a")
    budgets.spend("a", 29.0)
    assert not budgets.over("a")
    budgets.spend("a", 2.0)  # one second more than the share
    assert budgets.over("a")
    assert budgets.back_in_s("a") == 32.0  # 16 s, at half a second per second
    with pytest.raises(OverBudget, match="30 s per minute") as caught:
        budgets.enter("a")
    assert caught.value.retry_after_s == 32
    clock.advance(31.0)
    assert budgets.over("a")
    clock.advance(1.0)
    assert not budgets.over("a")
    clock.advance(1000.0)
    budgets.spend("a", 29.0)  # unused time is not saved up
    assert not budgets.over("a")


def test_a_segment_costs_its_own_turns_only() -> None:
    assert device_s({"denoise": 120.0, "decode": 30.0, "total": 900.0}) == 0.15
    assert device_s({"total": 900.0}) == 0.9
    assert device_s({}) == 0.0


def test_clients_that_would_gain_by_it_are_not_forgotten() -> None:
    clock = ManualClock()
    budgets = Budgets(1, 10.0, clock)
    budgets.enter("busy")
    budgets.spend("spent", 10.0)
    for i in range(3 * MAX_NAMES):
        budgets.spend(f"{i}", 0.001)
    assert len(budgets) <= MAX_NAMES
    assert budgets.over("spent")
    with pytest.raises(OverBudget):
        budgets.enter("busy")


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
        (None, "unknown"),
    ],
)
def test_a_client_is_an_address_or_a_network_of_one_household(host: str | None, name: str) -> None:
    assert client_name(host) == name


async def test_over_http_only_the_client_that_used_up_its_share_is_refused() -> None:
    workers: list[FakeWorker] = []
    settings: ServerConfig = config(client_sessions=1)
    async with live(settings, lambda on_event: FakeWorker(on_event, workers)) as server:
        made = await server.http.post("/v1/sessions", json={"prompt": "a dog"})
        refused = await server.http.post("/v1/sessions/main/fork")
        assert (refused.status_code, refused.json()["code"]) == (429, "over_budget")
        assert int(refused.headers["retry-after"]) > 0
        assert await server.figure('psistream_admission_rejected_total{reason="client"}') == 1
        transport = httpx.ASGITransport(server.app, client=("192.0.2.7", 5))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as other:
            assert (await other.post("/v1/sessions", json={"prompt": "a cat"})).status_code == 201
        own = {"Authorization": f"Bearer {made.json()['token']}"}
        await server.http.delete(f"/v1/sessions/{made.json()['id']}", headers=own)
        assert (await server.http.post("/v1/sessions", json={"prompt": "a dog"})).status_code == 201


async def test_a_session_that_was_refused_costs_no_place() -> None:
    workers: list[FakeWorker] = []
    settings: ServerConfig = config(client_sessions=1)
    async with live(settings, lambda on_event: FakeWorker(on_event, workers)) as server:
        workers[0].open_answer = lambda c: SessionClosed(c.session, "full", "no room")
        for _ in range(2):
            refused = await server.http.post("/v1/sessions", json={"prompt": "a dog"})
            assert (refused.status_code, refused.json()["code"]) == (503, "full")


async def test_a_client_that_has_used_up_its_share_is_throttled_until_half_of_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.gateway.upkeep.EVERY_S", 0.005)
    clock = ManualClock()
    async with gateway(clock, client_device_s=6.0) as (gate, workers, _):
        mine = await gate.open("mine", client="a")
        join(mine.fanout)
        for segment in range(2):
            stats = SegmentStats(mine.id, 0, segment, 0, {"total": 3500.0}, 0.0, 0, 0, 1000, 0.5)
            workers[0].tell(stats)
        await until(lambda: mine.throttled, "hold")
        assert SetViewers(mine.id, {}, throttled=True, count=1) in workers[0].commands
        assert gate.info(mine.id).buffering == Stall(1.0, 1.0, 40.0)
        join(mine.fanout)  # a viewer that joins now waits too
        assert SetViewers(mine.id, {"vp8": 2}, count=2) not in workers[0].commands
        clock.advance(40.0)
        await until(lambda: not mine.throttled, "end of the hold")
        assert SetViewers(mine.id, {"vp8": 2}, count=2) in workers[0].commands
        assert gate.info(mine.id).buffering is None
        assert gate.overdue() == []


def spent(session: str, segment: int, seconds: float) -> SegmentStats:
    return SegmentStats(session, 0, segment, 0, {"total": 1000 * seconds}, 0.0, 0, 0, 1000, 0.5)


async def test_a_throttled_client_gets_an_updated_waiting_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments in progress, and those of the client's other sessions, make the wait longer."""
    monkeypatch.setattr("server.gateway.upkeep.EVERY_S", 0.005)
    clock = ManualClock()
    async with gateway(clock, client_device_s=6.0) as (gate, workers, _):
        mine, other = await gate.open("mine", client="a"), await gate.open("other", client="a")
        for session in (mine, other):
            join(session.fanout)
        workers[0].tell(spent(mine.id, 0, 6.0))
        await until(lambda: mine.throttled and other.throttled, "hold of all that this client has")
        assert gate.info(mine.id).buffering == Stall(1.0, 1.0, 30.0)
        clock.advance(10.0)
        workers[0].tell(spent(mine.id, 1, 1.0))
        workers[0].tell(spent(other.id, 0, 3.0))
        workers[0].tell(Stalled(mine.id, None))  # its frames ran out later than expected
        sixty = Stall(1.0, 1.0, 60.0)
        await until(lambda: gate.info(mine.id).buffering == sixty, "another estimate")
        await until(lambda: gate.info(other.id).buffering == sixty, "another estimate for the other")
        clock.advance(59.0)
        assert mine.throttled
        clock.advance(1.0)
        await until(lambda: not (mine.throttled or other.throttled), "end of the hold")
        assert gate.metrics.registry.get_sample_value("psistream_sessions_buffering") == 0


async def test_a_session_is_throttled_with_the_segment_that_used_up_the_rest() -> None:
    async with gateway(ManualClock(), client_device_s=6.0) as (gate, workers, _):
        mine = await gate.open("mine", client="a")
        join(mine.fanout)
        workers[0].tell(spent(mine.id, 0, 6.0))
        assert mine.throttled
        assert workers[0].commands[-1] == SetViewers(mine.id, {}, throttled=True, count=1)
