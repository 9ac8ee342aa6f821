"""What passes the directory's port comes out as it went in, also between versions."""

from __future__ import annotations

import contextlib
import random

import pytest

from engine.errors import InvalidInput, Unavailable
from server.cluster import messages
from server.cluster.tables import Tables
from server.worker.wire.codec import decode, encode
from tests.server.cluster import samples

GROUPS = ((samples.TO_DIRECTORY, messages.TO_DIRECTORY), (samples.TO_MEMBERS, messages.TO_MEMBERS))
ALL = [(message, kinds) for group, kinds in GROUPS for message in group]


@pytest.mark.parametrize(("message", "kinds"), ALL, ids=lambda each: type(each).__name__)
def test_what_comes_out_is_what_went_in(message: object, kinds: dict[str, type]) -> None:
    assert decode(encode(message, 0.0), kinds, 0.0) == message


def test_there_is_a_sample_of_every_type() -> None:
    for group, kinds in GROUPS:
        assert {type(message) for message in group} == set(kinds.values())


@pytest.mark.parametrize("seed", range(3))
def test_whatever_comes_is_a_message_or_malformed(seed: int) -> None:
    """And what is a message is taken into the tables, or refused."""
    chance, tables = random.Random(seed), Tables(lambda: 0.0)
    for number in range(1500):
        message = chance.choice(samples.TO_DIRECTORY)
        data = bytearray(encode(message, 0.0))
        for _ in range(chance.randint(0, 4)):
            at = chance.randrange(len(data))
            if chance.random() < 0.5:
                data[at] = chance.randrange(256)
            else:
                junk = chance.choice([b"[" * 50, b'"', b"9" * 30, b"-", b"null", b"\xff", b"1e999"])
                data[at:at] = junk
        with contextlib.suppress(InvalidInput, Unavailable):
            made = decode(bytes(data), messages.TO_DIRECTORY, 0.0)
            match made:
                case messages.JoinWorker() | messages.JoinGateway():
                    tables.join(number, made)
                case messages.WorkerReport() | messages.GatewayReport():
                    tables.report(chance.randrange(number + 1), made)
                case messages.DrainHost(host):
                    tables.drain(host)
                case messages.TakeBackHost(host):
                    tables.take_back(host)
                case messages.DrainWorker(worker):
                    tables.drain_worker(worker)
                case messages.TakeBackWorker(worker):
                    tables.take_back_worker(worker)
    assert decode(encode(tables.roster(), 0.0), messages.TO_MEMBERS, 0.0) == tables.roster()
