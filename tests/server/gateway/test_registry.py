"""The registry finds a session by its tokens and by those of its links, until these end."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from engine.types import OpenSession
from server.access.links import MOST, Links
from server.access.tokens import hash_of
from server.gateway.budget import Budgets
from server.gateway.registry import Sessions
from server.gateway.session import GatewaySession, new_session
from server.metrics import Metrics
from tests.rigs.control.gateway import session_info
from tests.rigs.engine.fakes import ManualClock


def registry(clock: ManualClock) -> Sessions:
    return Sessions(Budgets(1000, 0.0, clock), Metrics(), clock)


def session(name: str) -> GatewaySession:
    return new_session(
        replace(session_info(), id=name),
        OpenSession(name, "a dog", 1),
        shared=False,
        client=None,
        now_s=0.0,
        on_viewers=lambda viewers: None,
        on_keyframe=lambda rendition: None,
    )


def scanned(sessions: Sessions, token: str, now_s: float) -> GatewaySession | None:
    """What a look at every session finds."""
    given = hash_of(token)
    return next((s for s in sessions if given in s.token_hashes or s.links.find(given, now_s)), None)


async def test_a_link_leads_to_its_session_until_it_ends() -> None:
    clock = ManualClock()
    sessions, mine = registry(clock), session("a")
    _, before = mine.links.make("viewer", 100.0, clock())
    sessions.add(mine)
    link, later = mine.links.make("driver", 10.0, clock())
    other, third = mine.links.make("driver", 100.0, clock())
    assert [sessions.by_token(each) for each in (before, later, third)] == [mine] * 3
    clock.advance(10.0)
    assert sessions.by_token(later) is None
    assert link.token_hash in sessions._by_hash  # nobody has looked at the session's links since
    mine.links.all(clock())
    assert link.token_hash not in sessions._by_hash
    mine.links.end(other.id, clock())
    assert sessions.by_token(third) is None
    assert sessions.by_token(before) is mine
    sessions.end(mine, "closed", "")
    assert sessions.by_token(before) is None
    assert not sessions._by_hash
    mine.links.make("driver", 10.0, clock())  # it has ended: nobody is told
    assert not sessions._by_hash


async def test_what_a_session_had_before_is_forgotten_with_its_links() -> None:
    clock = ManualClock()
    sessions, mine = registry(clock), session("a")
    sessions.add(mine)
    _, token = mine.links.make("viewer", 100.0, clock())
    mine.learn(None)
    assert sessions.by_token(token) is None
    assert sessions._by_hash.keys() == {*mine.token_hashes}


async def test_links_that_expire_do_not_pile_up() -> None:
    clock = ManualClock()
    sessions, mine = registry(clock), session("a")
    sessions.add(mine)
    for _ in range(20 * MOST):
        mine.links.make("viewer", 1.0, clock())
        clock.advance(0.5)
    assert len(sessions._by_hash) <= MOST + 2


@pytest.mark.parametrize("seed", range(4))
async def test_it_finds_what_a_look_at_every_session_finds(seed: int) -> None:
    chance, clock = random.Random(seed), ManualClock()
    sessions, tokens, named = registry(clock), ["", "link-", "link-x"], 0
    for _ in range(1500):
        there = list(sessions)
        one = chance.choice(there) if there else None
        match chance.randrange(9):
            case 0 if len(there) < 12:
                named += 1
                mine = session(f"s{named}")
                if chance.random() < 0.5:
                    tokens.append(mine.links.make("viewer", chance.uniform(1, 20), clock())[1])
                sessions.add(mine)
                tokens += [each for each in (mine.token, mine.view_token) if each]
            case 1 if one is not None and len(there) > 4:
                sessions.end(one, "closed", "")
            case 2 | 3 | 4 if one is not None and len(one.links.all(clock())) < MOST:
                tokens.append(one.links.make("driver", chance.uniform(1, 20), clock())[1])
            case 5 if one is not None and (links := one.links.all(clock())):
                one.links.end(chance.choice(links).id, clock())
            case 6 if one is not None:
                one.links.all(clock())
            case 7 if one is not None and chance.random() < 0.2:
                one.links.clear()
            case 8:
                clock.advance(chance.uniform(0, 3))
        for token in chance.sample(tokens, min(6, len(tokens))):
            assert sessions.by_token(token) is scanned(sessions, token, clock())
    for token in tokens:
        assert sessions.by_token(token) is scanned(sessions, token, clock())
    kept = {name for each in sessions for name in (*each.token_hashes, *each.links._links)}
    assert sessions._by_hash.keys() == kept


def test_links_tell_whoever_asks() -> None:
    told: list[tuple[str, bool]] = []
    links = Links()
    link, _ = links.make("viewer", 1.0, 0.0)
    links.report_to(lambda name, there: told.append((name, there)))
    links.report_to(None)
    assert told == [(link.token_hash, True), (link.token_hash, False)]
