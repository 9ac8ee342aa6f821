"""Messages ↔ bytes: what comes out is what went in, also between versions, and no bytes do harm."""

from __future__ import annotations

import contextlib
import json
import math
import pickle
import random
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest

from engine.errors import InvalidInput
from engine.types import Control, Pause
from server.worker.base import RestoreSession
from server.worker.messages.commands import CloseSession, SetViewers, SubmitControl
from server.worker.wire import schema
from server.worker.wire.checks import check
from server.worker.wire.codec import decode, encode
from server.worker.wire.values import Malformed
from tests.server.worker.wire import samples

GROUPS = (
    (samples.GREETINGS, schema.GREETINGS),
    (samples.ORDERS, schema.ORDERS),
    (samples.EVENTS, schema.EVENTS),
)
JUNK = (b"[" * 50, b'"', b"9" * 30, b"-", b"null", b"\xff", b"{}", b"1e999")
ALL = [(message, kinds) for messages, kinds in GROUPS for message in messages]


def same(a: Any, b: Any) -> bool:
    """Equal, arrays and moments included."""
    if isinstance(a, np.ndarray):
        return bool(np.array_equal(a, b))
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if is_dataclass(a):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    return bool(a == b)


@pytest.mark.parametrize(("message", "kinds"), ALL, ids=lambda each: type(each).__name__)
def test_what_comes_out_is_what_went_in(message: object, kinds: dict[str, type]) -> None:
    assert same(decode(encode(message, 5.0), kinds, 5.0), message)


def test_there_is_a_sample_of_every_type() -> None:
    for messages, kinds in GROUPS:
        assert {type(message) for message in messages} == set(kinds.values())


def test_a_moment_travels_as_the_time_that_is_left() -> None:
    """Hosts have clocks of their own."""
    order = SubmitControl("s", Control("c", Pause(), expires_s=1_000_000.5))
    there = decode(encode(order, 1_000_000.0), schema.ORDERS, 20.0)
    assert there.control.expires_s == pytest.approx(20.5)


def test_nothing_else_that_crosses_is_a_moment() -> None:
    """Whoever adds a time says here that it is a duration, or makes it a Moment."""
    kinds = {kind for kind in schema.NAMES if is_dataclass(kind)}
    times = {
        f"{schema.NAMES[k]}.{f.name}" for k in kinds for f in fields(k) if f.name.endswith(("_s", "_ms"))
    }
    durations = {
        "exported.remaining_s",
        "closed.retry_after_s",
        "export.rewind_s",
        "go_on.starts_in_s",
        "open.rewind_s",
        "hung.for_s",
        "ready.segment_ms",
        "stall.resumes_in_s",
        "stats.encode_ms",
        "stats.lead_ms",
        "stats.timings_ms",
    }
    assert times - durations == {"control.expires_s"}


def changed(message: object, **values: Any) -> bytes:
    """With other values in its header."""
    data = encode(message, 0.0)
    size = int.from_bytes(data[:4], "big")
    header = json.loads(data[4 : 4 + size]) | values
    text = json.dumps(header).encode()
    return len(text).to_bytes(4, "big") + text + data[4 + size :]


def test_a_newer_peer_is_understood() -> None:
    newer = changed(CloseSession("s"), reason="tired", nested={"type": "later", "x": [1]})
    assert decode(newer, schema.ORDERS, 0.0) == CloseSession("s")
    assert decode(changed(CloseSession("s"), type="fold"), schema.ORDERS, 0.0) is None
    orders = [{"type": "fold", "session": "s"}, {"type": "viewers", "session": "s", "viewers": {"vp8": 1}}]
    message = decode(changed(samples.ORDERS[11], then=orders), schema.ORDERS, 0.0)
    assert isinstance(message, RestoreSession)
    assert message.then == (SetViewers("s", {"vp8": 1}),)


def test_an_older_peer_is_understood() -> None:
    text = json.dumps({"type": "exported", "session": "s", "request": "x", "data": None}).encode()
    old = decode(len(text).to_bytes(4, "big") + text, schema.EVENTS, 0.0)
    assert (old.segment, old.remaining_s, old.code) == (-1, 0.0, None)


@pytest.mark.parametrize(
    ("message", "values"),
    [
        (samples.ORDERS[0], {"blobs": [72, 9]}),
        (samples.ORDERS[0], {"blobs": [-72, 152]}),
        (samples.ORDERS[0], {"blobs": 5}),
        (samples.ORDERS[0], {"image": [0, 3, 4, 7]}),
        (samples.ORDERS[0], {"image": [9, 3, 4, 6]}),
        (samples.ORDERS[0], {"seed": True}),
        (samples.ORDERS[0], {"seed": 2**80}),
        (samples.ORDERS[0], {"seed": 1.5}),
        (samples.ORDERS[0], {"rewind_s": math.inf}),
        (samples.ORDERS[0], {"rewind_s": "2"}),
        (samples.ORDERS[0], {"prompt": [{"type": "weighted"}]}),
        (samples.ORDERS[0], {"prompt": [["a", 1]]}),
        (samples.ORDERS[0], {"session": None}),
        (samples.ORDERS[0], {"session": "\ud800"}),
        (samples.ORDERS[2], {"control": {"type": "fold"}}),
        (samples.ORDERS[2], {"control": {"type": "control", "id": "c", "body": {"type": "ready"}}}),
        (samples.ORDERS[2], {"control": []}),
        (samples.ORDERS[12], {"what": "everything"}),
        (SetViewers("s", {}), {"viewers": {"vp8": "many"}}),
        (CloseSession("s"), {"blobs": [0] * 1000}),
    ],
)
def test_what_is_malformed_is_refused(message: object, values: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        decode(changed(message, **values), schema.ORDERS, 0.0)


def test_pickle_is_only_bytes() -> None:
    with pytest.raises(Malformed):
        decode(pickle.dumps(CloseSession("s")), schema.ORDERS, 0.0)


def test_no_number_is_infinite() -> None:
    """A figure that has no bound must not end the connection."""
    info = samples.EVENTS[1]
    data = encode(type(info)(**{**vars(info), "speed": math.inf, "lead_ms": math.nan}), 0.0)
    assert math.isfinite(decode(data, schema.EVENTS, 0.0).speed)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_comes_is_a_message_or_malformed(seed: int) -> None:
    """And what is a message is valid, or refused."""
    chance = random.Random(seed)
    for _ in range(1500):
        message, kinds = chance.choice(ALL)
        data = bytearray(encode(message, 0.0))
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(data))
            match chance.randrange(4):
                case 0:
                    data[at] = chance.randrange(256)
                case 1:
                    del data[at : at + chance.randint(1, 9)]
                case 2:
                    data[at:at] = chance.choice(
                        [b"[" * 50, b'"', b"9" * 30, b"-", b"null", b"\xff", b"{}", b"1e999"]
                    )
                case _:
                    data = data[:at] + data[: chance.randint(0, 40)] + data[at:]
            if not data:
                break
        with contextlib.suppress(InvalidInput):
            made = decode(bytes(data), kinds, 0.0)
            if made is not None and kinds is schema.ORDERS:
                check(made, samples.READY)


def test_deep_json_is_refused() -> None:
    text = b'{"type": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    with pytest.raises(Malformed):
        decode(len(text).to_bytes(4, "big") + text, schema.ORDERS, 0.0)
