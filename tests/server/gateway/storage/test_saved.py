"""Saved sessions: what goes in comes out, and nothing else is taken for one."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace

import numpy as np
import pytest

from engine.types import Action, Control, Image, OpenSession, Prompt, SessionInfo
from server.gateway.storage.saved import MARK, Damaged, SavedSession, pack, unpack
from server.worker.base import Numbers
from tests.rigs.server.server_rig import READY

PIXELS = np.zeros((3, READY.height, READY.width), np.uint8)
CONTROLS = (
    Control("c1", Prompt("a blue dog")),
    Control("c2", Image(PIXELS, "next")),
    Control("c3", Action(READY.actions[0])),
)
SAVED = SavedSession(
    owner="g1",
    model=READY.model,
    fingerprint=READY.fingerprint,
    saved_at=1.7e9,
    lease_epoch=3,
    numbers=Numbers(1, 20, 160, 900_000),
    record=b"{}",
    info=SessionInfo("s1", "a dog", 7, False, None, 0, 19, 152, 1000),
    opening=OpenSession("s1", None, None, snapshot=b"state" * 1000),
    controls=CONTROLS,
)


def test_what_is_packed_is_unpacked() -> None:
    back = unpack(pack(SAVED, 5.0), 9.0)
    assert replace(back, controls=()) == replace(SAVED, controls=())
    assert [(c.id, type(c.body)) for c in back.controls] == [(c.id, type(c.body)) for c in CONTROLS]
    back.check("s1", READY)
    assert [c.id for c in back.recovery().since()] == ["c1", "c2", "c3"]
    assert back.recovery().reopening("s1") == SAVED.opening
    assert back.fits(READY)
    assert not back.fits(replace(READY, fingerprint="another"))
    assert not back.fits(replace(READY, model="another"))


def test_numbers_and_media_time_go_on_wherever_the_clock_stands() -> None:
    for away_s in (-5000.0, 0.0, 0.3, 60.0, 1e6):
        found = SAVED.numbers_at(SAVED.saved_at + away_s, READY)
        lived_s = max(0.0, away_s)
        was = SAVED.numbers
        assert found.media_90k > was.media_90k + 90_000 * lived_s
        assert found.frame > was.frame + READY.fps * lived_s
        assert found.frame - was.frame == (found.segment - was.segment) * READY.frames_per_segment


def test_bytes_that_are_damaged_or_foreign_are_refused_with_the_reason() -> None:
    good = pack(SAVED, 0.0)
    for bad, text in (
        (b"", "not written by this version"),
        (b"\x00" * 500, "not written by this version"),
        (good.replace(b"session 1", b"session 2"), "not written by this version"),
        (good[:-1], "SHA-256"),
        (good[: len(MARK) + 10], "SHA-256"),
        (good + b"x", "SHA-256"),
    ):
        with pytest.raises(Damaged, match=text):
            unpack(bad, 0.0)
    rng = random.Random(5)
    for _ in range(300):
        data = bytearray(good)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        with pytest.raises(Damaged):
            unpack(bytes(data), 0.0)


def test_with_a_right_hash_wrong_content_is_refused_too() -> None:
    """Whoever can write into the store can make a hash."""
    body = bytearray(pack(SAVED, 0.0)[len(MARK) + 32 :])
    rng, unpacked = random.Random(6), 0
    for _ in range(2000):
        data = bytearray(body)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(1500)] = rng.randrange(256)
        try:
            found = unpack(MARK + hashlib.sha256(data).digest() + data, 0.0)
            found.check("s1", READY)
            found.recovery()
            found.numbers_at(1.8e9, READY)
            unpacked += 1
        except Damaged:
            pass
    assert unpacked < 2000


@pytest.mark.parametrize(
    "change",
    [
        {"info": replace(SAVED.info, id="other")},
        {"opening": OpenSession("other", None, None, snapshot=b"x")},
        {"opening": OpenSession("s1", None, None)},
        {"lease_epoch": 0},
        {"saved_at": -1.0},
        {"saved_at": 1e300},
        {"numbers": Numbers(0, -1, 0, 0)},
        {"controls": (Control("c", Action("no such action")),)},
        {"controls": (Control("c", Image(np.zeros((3, 2, 2), np.uint8), "next")),)},
    ],
)
def test_what_no_gateway_saves_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(Damaged):
        unpack(pack(replace(SAVED, **change), 0.0), 0.0).check("s1", READY)  # type: ignore[arg-type]
