"""What a gateway leaves of a session for the next one: bounded, without tokens, and read with care."""

from __future__ import annotations

import json
import random

import pytest

from engine.types import Receipt
from server.access.links import MOST
from server.access.tokens import hash_of
from server.gateway.budget import Budgets, OverBudget
from server.gateway.records.record import Record, read_record, record_of
from server.worker.hosting.leases import RECORD_BYTES
from tests.rigs.engine.fakes import ManualClock
from tests.rigs.server.server_rig import gateway

KEY = "0123456789abcdeffedcba9876543210"
UNLIMITED = Budgets(0, 0.0, ManualClock())
A, B = hash_of("a"), hash_of("b")
GOOD = {
    "version": 1,
    "token_hash": A,
    "view_token_hash": B,
    "client": "192.0.2.7",
    "share_back_at": 50.0,
    "links": [["l1", "driver", hash_of("link"), 1060]],
    "receipts": [["c1", "applied", 1, 12, None, ""]],
}


async def test_everything_comes_back_and_links_end_at_the_same_time_on_another_clock() -> None:
    async with gateway(host="192.0.2.1", api_key=KEY) as (gate, _, _):
        main = gate.session("main")
        main.client = "192.0.2.7"
        now_s = gate.sessions.now_s()
        _, token = main.links.make("viewer", 60.0, now_s)
        main.links.make("driver", 10.0, now_s)
        main.remember(Receipt("main", "c1", "applied", 1, 12))
        record = record_of(main, UNLIMITED, 1000.0, now_s)
        known = read_record(record)
        assert known.hashes == (main.token_hash, main.view_token_hash)
        assert (known.client, known.receipts) == ("192.0.2.7", (Receipt("", "c1", "applied", 1, 12),))
        mine = await gate.open("a dog")
        known.apply(mine, 1020.0, 5.0)
        assert [link.role for link in mine.links.all(5.0)] == ["viewer"]
        assert (mine.accepts(token, 44.0), mine.accepts(token, 46.0)) == ("viewer", None)
        assert mine.answers["c1"] == Receipt(mine.id, "c1", "applied", 1, 12)
        for secret in (main.token, main.view_token, token):
            assert secret
            assert secret.encode() not in record


async def test_a_record_is_bounded_whatever_is_in_it() -> None:
    async with gateway(host="192.0.2.1", api_key=KEY) as (gate, _, _):
        main, now_s = gate.session("main"), gate.sessions.now_s()
        for _ in range(MOST):
            main.links.make("viewer", 1e6, now_s)
        for n in range(500):
            main.remember(Receipt("main", f"c{n}", "rejected", code="x", message="🦊" * 5000))
        main.remember(Receipt("main", "only received", "received"))
        record = record_of(main, UNLIMITED, 1.7e9, now_s)
        assert len(record) <= RECORD_BYTES
        known = read_record(record)
        assert len(known.links) == MOST
        assert [r.id for r in known.receipts] == [f"c{n}" for n in range(500 - len(known.receipts), 500)]
        assert len(known.receipts) > 10


def test_the_used_share_of_a_client_goes_along() -> None:
    clock = ManualClock()
    before, after = Budgets(2, 6.0, clock), Budgets(2, 6.0, clock)
    before.enter("a")
    before.spend("a", 9.0)
    back_s = before.whole_in_s("a")
    assert back_s == 90.0
    for _ in range(3):  # as many sessions, and used once
        Record(client="a", share_back_at=1000.0 + back_s).charge(after, 1000.0)
    assert after.over("a")
    assert after.whole_in_s("a") == 90.0
    clock.advance(61.0)
    assert not after.over("a")
    with pytest.raises(OverBudget, match="3 sessions"):
        after.enter("a")
    Record(client="b", share_back_at=1e15).charge(after, 0.0)
    assert after.whole_in_s("b") == 120.0


def test_a_record_of_anybody_else_is_no_record() -> None:
    """It is read as an empty one: the session gets new tokens, so nobody can use it but by an API key."""
    assert read_record(json.dumps(GOOD).encode()).hashes == (A, B)
    old = {"token": "plain", "view_token": "plain too", "client": "192.0.2.7", "receipts": []}
    for other in (old, {**GOOD, "version": 2}, {**GOOD, "version": "1"}):
        assert read_record(json.dumps(other).encode()) == Record()
    odd = json.dumps(GOOD).replace("1060", "1e999").encode()
    for bad in (b"", b"\xff", b"[]", b"[" * 100_000, b'{"version":1,"version":1}', odd, b"x" * (1 << 20)):
        assert read_record(bad) == Record()


def test_one_hash_without_the_other_is_none() -> None:
    for hashes in ((A, None), (None, A), (A, A), (A, B.upper()), (A, B + "0"), ("", ""), (1, 2)):
        wrong = {**GOOD, "token_hash": hashes[0], "view_token_hash": hashes[1]}
        assert read_record(json.dumps(wrong).encode()).hashes is None


async def test_no_bytes_make_reading_fail() -> None:
    """Half of them damaged, half with odd values in odd places."""
    rng = random.Random(7)
    values: list[object] = [None, True, -1, 1 << 60, 1.5, "", "x" * 300, [], {}, [[]], [None] * 100, A]
    values += ["\ud800", 10**30]
    async with gateway() as (gate, _, _):
        session = await gate.open("a dog")
        for n in range(3000):
            if n % 2:
                data = bytearray(json.dumps(GOOD).encode())
                for _ in range(rng.randint(1, 8)):
                    data[rng.randrange(len(data))] = rng.randrange(256)
                raw = bytes(data[: rng.randint(1, len(data))] if n % 3 else data)
            else:
                field = rng.choice(list(GOOD))
                value = GOOD[field]
                if isinstance(value, list) and rng.random() < 0.7:
                    row = list(value[0])
                    row[rng.randrange(len(row))] = rng.choice(values)
                    raw = json.dumps({**GOOD, field: [row]}).encode()
                else:
                    raw = json.dumps({**GOOD, field: rng.choice(values)}).encode()
            known = read_record(raw)
            known.charge(Budgets(1, 1.0, ManualClock()), 1000.0)
            known.apply(session, 1000.0, 0.0)
            repr(known).encode()
            assert len(record_of(session, UNLIMITED, 1000.0, 0.0)) <= RECORD_BYTES
