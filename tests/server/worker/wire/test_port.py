"""A worker's port: who gets in, who doesn't, and that nothing that is sent to it does any harm."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from functools import partial
from pathlib import Path

import pytest

from engine.errors import Forbidden, InvalidInput, PsistreamError, Unavailable
from engine.types import OpenSession, SessionInfo
from server.worker.base import session_of
from server.worker.core import WorkerCore
from server.worker.hosting.host import MAX_GATEWAYS, MAX_STRANGERS, Host
from server.worker.messages.events import Hung
from server.worker.wire import handshake
from server.worker.wire.codec import decode, encode
from server.worker.wire.connection import Connection
from server.worker.wire.frames import HEAD
from server.worker.wire.schema import GREETINGS, WIRE, Challenge, GreetingRefused, Hello, Proof
from tests.rigs.server.port_rig import KEY, listening, own_certificate, remote
from tests.rigs.waiting import LONG_S, until
from tests.server.worker.wire import samples
from tests.server.worker.working import Heard


async def test_a_worker_elsewhere_plays_a_session() -> None:
    heard = Heard()
    async with listening() as (_, port):
        worker = remote(port, heard.hear)
        ready = await worker.start()
        assert (ready.model, ready.fingerprint) == ("fake", "arithmetic")
        worker.send(OpenSession("s", "a red cat", 1))
        await until(lambda: any(isinstance(e, SessionInfo) for e in heard), "session")
        await worker.close()
        with pytest.raises(Unavailable):
            worker.send(OpenSession("t", "a red cat", 1))


@pytest.mark.parametrize("key", [b"", b"another key of the same length..", KEY + b"x"])
async def test_without_the_key_nobody_gets_in(key: bytes) -> None:
    async with listening() as (host, port):
        worker = remote(port, Heard().hear, key)
        with pytest.raises(Forbidden, match="another key"):
            await worker.start()
        assert not host.mail.gateways


async def test_a_worker_checks_the_key_itself() -> None:
    """A gateway that doesn't care who the worker is still has to prove that it has the key."""
    async with listening() as (host, port):
        ended = asyncio.Event()
        connection = Connection(lambda why: ended.set())
        await asyncio.get_running_loop().create_connection(lambda: connection, "127.0.0.1", port)
        connection.send(handshake.hello())
        challenge = await connection.receive()
        assert isinstance(challenge, Challenge)
        connection.send(Proof(challenge.proof))  # the worker's own, sent back
        refusal = await connection.receive()
        assert isinstance(refusal, GreetingRefused)
        assert refusal.code == "forbidden"
        await asyncio.wait_for(ended.wait(), LONG_S)
        assert not host.mail.gateways


def test_proofs_are_of_both_nonces_and_of_one_side() -> None:
    said = handshake.hello()
    answer, expected = handshake.challenge(KEY, said)
    assert (handshake.prove(KEY, said, answer).proof,) == expected != (answer.proof,)
    again, other = handshake.challenge(KEY, said)
    assert other != expected
    assert again.nonce != answer.nonce
    with pytest.raises(Forbidden):
        handshake.prove(KEY, handshake.hello(), answer)
    with pytest.raises(Forbidden):
        handshake.check(other, Proof(expected[0]))


async def test_another_version_is_refused_with_both_numbers() -> None:
    async with listening() as (_, port):
        connection = Connection(lambda why: None)
        await asyncio.get_running_loop().create_connection(lambda: connection, "127.0.0.1", port)
        connection.send(Hello(WIRE + 1, "9.9", b"n" * 32))
        refusal = await connection.receive()
        assert isinstance(refusal, GreetingRefused)
        assert f"version {WIRE + 1} of the wire, the worker version {WIRE}: install" in refusal.message
        connection.abort()


async def test_what_is_no_worker_is_named() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(Unavailable, match=f"tcp://127.0.0.1:{port}: it sent something else"):
        await remote(port, Heard().hear).start()
    server.close()
    with pytest.raises(Unavailable, match="no connection"):
        await remote(port, Heard().hear).start()


async def test_tls_where_it_is_asked_for(tmp_path: Path) -> None:
    context, certificate = await asyncio.to_thread(own_certificate, tmp_path)
    async with listening(tls=context) as (_, port):
        worker = remote(port, Heard().hear, tls=True, ca=certificate)
        assert (await worker.start()).model == "fake"
        await worker.close()
        with pytest.raises(Unavailable, match="TLS failed: self-signed certificate"):
            await remote(port, Heard().hear, tls=True).start()
        with pytest.raises(Unavailable, match="if it has a certificate, write tls://"):
            await remote(port, Heard().hear).start()
    async with listening() as (_, port):
        with pytest.raises(Unavailable, match="if it listens without a certificate, write tcp://"):
            await remote(port, Heard().hear, tls=True, ca=certificate).start()


async def sent(port: int, data: bytes) -> None:
    """Whatever becomes of it."""
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reader.read(), 0.05)
        writer.transport.abort()


async def test_who_finds_no_place_is_not_kept_waiting() -> None:
    """Connections beyond the places were kept open, for as long as their peers liked."""
    async with listening() as (_, port):
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_GATEWAYS + MAX_STRANGERS)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        for _, each in [(reader, writer), *idle]:
            each.close()


async def test_with_tls_nothing_waits_for_what_the_other_side_says(tmp_path: Path) -> None:
    """After each write nothing was written until something came in: video waited for the next heartbeat."""
    context, certificate = await asyncio.to_thread(own_certificate, tmp_path)
    heard = Heard()
    async with listening(tls=context) as (host, port):
        worker = remote(port, heard.hear, tls=True, ca=certificate)
        await worker.start()
        await worker._link._tasks.close()  # the heartbeat
        for number in range(20):
            host.mail.emit(Hung(float(number)))
            await until(lambda n=float(number): Hung(n) in heard, "it")  # type: ignore[misc]
        await worker.close()


async def test_with_tls_strangers_are_counted_and_hung_up_on_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before TLS has begun they were neither; and if it began late, the connection was never closed."""
    monkeypatch.setattr("server.worker.wire.connection.Connection.receive.__defaults__", (1.0,))
    context, certificate = await asyncio.to_thread(own_certificate, tmp_path)
    async with listening(tls=context) as (host, port):
        most = MAX_GATEWAYS + MAX_STRANGERS
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(most)]
        await until(lambda: host.entrance.strangers == most, "all of them")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for waiting in (reader, *(each for each, _ in idle)):
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(LONG_S / 2):  # asyncio itself hangs up after a minute
                    assert await waiting.read() == b""
        await until(lambda: not host.entrance.strangers, "free places")
        for _, each in [(reader, writer), *idle]:
            each.close()
        await sent(port, b"GET / HTTP/1.1\r\n\r\n")
        worker = remote(port, Heard().hear, tls=True, ca=certificate)
        await worker.start()
        await worker.close()
        await until(lambda: not host.entrance.strangers and not host.mail.gateways, "the end")


def framed(data: bytes, flags: int = 0) -> bytes:
    return len(data).to_bytes(HEAD - 1, "big") + bytes([flags]) + data


async def test_strangers_do_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    """Junk, torn and repeated greetings, and more connections than there are places."""
    chance = random.Random(17)
    greetings = [framed(encode(message, 0.0)) for message in samples.GREETINGS]
    async with listening() as (host, port):
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_GATEWAYS + MAX_STRANGERS)]
        with pytest.raises(PsistreamError):  # all places are taken
            await remote(port, Heard().hear).start()
        for _, writer in idle:
            writer.close()
        await until(lambda: not host.entrance.strangers, "free places")
        for _ in range(60):
            data = bytearray(b"".join(chance.choices([*greetings, chance.randbytes(40)], k=3)))
            data[chance.randrange(len(data))] = chance.randrange(256)
            await sent(port, bytes(data))
        await until(lambda: not host.entrance.strangers, "end of all greetings")
        worker = remote(port, Heard().hear)
        await worker.start()
        await worker.close()
    faults = [r for r in caplog.records if r.exc_info or r.levelno >= logging.ERROR]
    assert not faults, faults


async def test_a_gateway_that_talks_nonsense_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    """It has the key, and sends whatever it likes; another one's session plays on."""
    chance = random.Random(5)
    heard = Heard()
    async with listening() as (host, port):
        good, bad = remote(port, heard.hear), remote(port, Heard().hear)
        await good.start()
        good.send(OpenSession("mine", "a red cat", 1))
        await until(lambda: any(isinstance(e, SessionInfo) for e in heard), "session")
        await bad.start()
        connection = bad._link._connection
        assert connection is not None
        for number in range(400):
            order = chance.choice(samples.ORDERS)
            data = bytearray(encode(order, 0.0).replace(b'"s"', chance.choice([b'"s"', b'"mine"', b'"u"'])))
            size = int.from_bytes(data[:4], "big")
            if number % 2:
                data[4 + chance.randrange(size)] = chance.choice(b'0123456789"-[]{}e.x')
            connection.post(bytes(data))
        await until(lambda: not len(connection.outbox), "end of the nonsense")
        heard.clear()
        good.send(OpenSession("other", "a red cat", 1))
        await until(lambda: any(session_of(e) == "other" for e in heard), "answer")  # it may be full by now
        assert host.mail.leases.get("mine") is not None
        await good.close()
        await bad.close()
    faults = [r for r in caplog.records if r.exc_info or r.levelno >= logging.ERROR]
    assert not faults, faults


def test_a_greeting_needs_no_trust() -> None:
    """Nothing but greetings is decoded before the proof."""
    assert decode(encode(samples.ORDERS[0], 0.0), GREETINGS, 0.0) is None
    assert partial(decode, encode(samples.GREETINGS[0], 0.0), GREETINGS)(0.0) == samples.GREETINGS[0]


async def test_a_model_that_cannot_be_loaded_is_told_to_the_gateway_and_not_to_the_log_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It was two lines of `psistream serve`, of which the first read "this machine was refused"."""
    host = Host(b"", private=False)
    server = await asyncio.get_running_loop().create_server(host.entrance.connection, "127.0.0.1", 0)
    waiting = asyncio.create_task(remote(server.sockets[0].getsockname()[1], Heard().hear, b"").start())

    def load(emit: object) -> WorkerCore:
        raise InvalidInput("there is no such model", field="model")

    await until(lambda: host.entrance.strangers == 1, "the gateway")
    with pytest.raises(InvalidInput, match="no such model"):
        await host.run(load)
    with pytest.raises(PsistreamError, match="no such model"):
        await waiting
    server.close()
    assert "no such model" not in caplog.text
