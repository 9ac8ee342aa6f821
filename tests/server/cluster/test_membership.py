"""Members of a directory on loopback: who gets in, what they are told, and what a restart changes."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path

import pytest

from engine.errors import Forbidden, InvalidInput, PsistreamError
from server.cluster.checks import check_gateway_url
from server.cluster.directory import MAX_STRANGERS, MOST_UNREAD
from server.cluster.messages import (
    CLUSTER_WIRE,
    DIRECTORY_DOOR,
    DrainHost,
    GatewayReport,
    JoinGateway,
    JoinWorker,
    StopDirectory,
    TakeBackHost,
    Watch,
    WorkerReport,
)
from server.cluster.tables import NameTaken
from server.worker.remote import RemoteWorker, WorkerAddress
from server.worker.wire import handshake
from server.worker.wire.codec import encode
from server.worker.wire.connection import Connection
from server.worker.wire.schema import GreetingRefused, Hello
from tests.rigs.control.network import Relay
from tests.rigs.server.directory_rig import directing, member
from tests.rigs.server.port_rig import KEY, listening, own_certificate
from tests.rigs.waiting import until
from tests.server.cluster import samples

W1 = JoinWorker("w1", "tcp://10.0.0.7:7070", "host-a", instance="1")
G1 = JoinGateway("g1", "http://10.0.0.5:8080", "2")


async def test_members_hear_of_each_other() -> None:
    async with directing() as (_, port), member(port, G1, GatewayReport(1, ("main",))) as gateway:
        await gateway.joined()
        async with member(port, W1, WorkerReport()) as worker:
            await until(lambda: gateway.roster.workers, "the worker")
            assert (gateway.roster.workers[0].name, gateway.roster.workers[0].url) == ("w1", W1.url)
            await until(lambda: gateway.roster.main == "g1", "the gateway's report")
            await until(lambda: worker.roster.workers, "what it is told")
            assert [w.name for w in worker.roster.workers] == ["w1"]
            assert not worker.roster.gateways
        await until(lambda: not gateway.roster.workers, "its end")


async def test_operators_drain_hosts_and_stop_the_directory() -> None:
    async with (
        directing() as (directory, port),
        member(port, W1, WorkerReport()) as worker,
        member(port, Watch()) as watcher,
    ):
        await watcher.joined()
        watcher.send(DrainHost("host-a"))
        await until(lambda: [w.draining for w in worker.roster.workers] == [True], "the drain")
        watcher.send(TakeBackHost("host-a"))
        await until(lambda: [w.draining for w in worker.roster.workers] == [False], "its end")
        watcher.send(StopDirectory())
        await until(directory._over.done, "the end")


async def test_a_directory_that_stops_does_not_say_that_its_members_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with directing() as (directory, port), member(port, W1, WorkerReport()) as worker:
        await worker.joined()
        directory.end()
        await until(lambda: worker.fault, "word of it")
    assert "worker w1" in caplog.text
    assert "has left" not in caplog.text


async def test_only_operators_may() -> None:
    async with directing() as (directory, port), member(port, W1, WorkerReport()) as worker:
        await worker.joined()
        worker.send(StopDirectory())
        worker.send(DrainHost("host-a"))
        seen = worker.roster
        await until(lambda: worker.roster is not seen, "a later roster")
        assert not directory._over.done()
        assert not worker.roster.workers[0].draining


@pytest.mark.parametrize("key", [b"", KEY + b"x"])
async def test_without_the_key_nobody_joins(key: bytes) -> None:
    async with directing() as (directory, port), member(port, W1, key=key) as worker:
        with pytest.raises(Forbidden, match="the directory has another key"):
            await worker.joined()
        assert not directory._members


async def test_tls_where_it_is_asked_for(tmp_path: Path) -> None:
    context, certificate = await asyncio.to_thread(own_certificate, tmp_path)
    async with directing(tls=context) as (_, port):
        async with member(port, W1, WorkerReport(), tls=True, ca=certificate) as worker:
            await worker.joined()
        async with member(port, W1, tls=True) as stranger:
            await until(lambda: "TLS failed" in (stranger.fault or ""), "refusal")


async def test_a_name_is_taken_by_who_has_it() -> None:
    async with directing() as (_, port), member(port, G1, GatewayReport()) as first:
        await first.joined()
        async with member(port, JoinGateway("g1", "http://10.0.0.6:8080", "3")) as second:
            with pytest.raises(PsistreamError, match=r"the name g1 is taken .* give --name") as refused:
                await second.joined()
            assert refused.value.code == NameTaken.code
        assert first.fault is None


async def test_a_malformed_name_is_said_to_be_one() -> None:
    async with directing() as (_, port), member(port, JoinGateway("G-1", "http://h:1")) as gateway:
        with pytest.raises(PsistreamError, match="--name"):
            await gateway.joined()


async def test_another_version_is_refused_with_both_numbers() -> None:
    async with directing() as (_, port):
        connection = Connection(lambda why: None)
        await asyncio.get_running_loop().create_connection(lambda: connection, "127.0.0.1", port)
        connection.send(Hello(CLUSTER_WIRE + 1, "9.9", b"n" * 32))
        refusal = await connection.receive()
        assert isinstance(refusal, GreetingRefused)
        assert (
            f"version {CLUSTER_WIRE + 1} of the wire, the directory version {CLUSTER_WIRE}: install"
            in refusal.message
        )
        connection.abort()


async def test_a_worker_is_no_directory_and_a_directory_no_worker() -> None:
    """They have the same key, but a proof is worth nothing at the other's door."""
    async with listening() as (_, port), member(port, W1) as worker:
        with pytest.raises(Forbidden):
            await worker.joined()
    async with directing() as (_, port):
        with pytest.raises(Forbidden):
            await RemoteWorker(WorkerAddress("127.0.0.1", port), KEY, None, lambda event: None).start()


async def test_a_directory_that_starts_later_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    async with directing() as (_, port):
        pass
    async with member(port, W1, WorkerReport()) as worker:
        await until(lambda: worker.fault != "the directory has not answered yet", "a try")
        assert f"tcp://127.0.0.1:{port}: no connection" in (worker.fault or "")
        async with directing(port):
            await worker.joined()
    assert len([r for r in caplog.records if "no connection" in r.message]) == 1


async def test_a_directory_that_is_frozen_is_said_to_be_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was said to have closed the connection, which operators looked for in vain in its log."""
    monkeypatch.setattr("server.cluster.membership.SILENT_S", 0.1)
    monkeypatch.setattr("server.cluster.membership.REPORT_S", 0.05)
    async with (
        directing() as (_, port),
        Relay(port) as relay,
        member(relay.port, W1, WorkerReport()) as worker,
    ):
        await worker.joined()
        relay.freeze()
        await until(lambda: worker.fault and "said nothing for 0.1 s" in worker.fault, "its silence")
        relay.heal()


async def test_a_restart_of_the_directory_loses_nothing() -> None:
    """While it is away the last roster counts; afterwards its tables are what they were."""
    async with contextlib.AsyncExitStack() as stack:
        async with directing() as (first, port):
            gateway = await stack.enter_async_context(member(port, G1, GatewayReport(2, ("main", "g2-abc"))))
            await stack.enter_async_context(member(port, W1, WorkerReport(None, 2)))
            await until(lambda: gateway.roster.moved and gateway.roster.workers, "both")
            before = first.tables.roster()
        assert gateway.roster.workers
        assert gateway.roster.main == "g1"
        async with directing(port) as (second, _):
            seen = gateway.roster
            await until(lambda: second.tables.roster().main, "reports")
            await until(lambda: len(second.tables.roster().workers) == 1, "the worker")
            await until(lambda: second.tables.roster().settled == before.settled, "time")
            await until(lambda: second.tables.roster() == before, "the same tables")
            await until(lambda: gateway.roster is not seen, "a roster")


async def test_strangers_do_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    chance = random.Random(17)
    greetings = [handshake.hello(door=DIRECTORY_DOOR), *samples.TO_DIRECTORY]
    async with directing() as (directory, port):
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_STRANGERS)]
        await until(lambda: directory.entrance.strangers == MAX_STRANGERS, "strangers")
        async with member(port, W1) as late:
            await until(lambda: late.fault != "the directory has not answered yet", "refusal")
        for _, writer in idle:
            writer.close()
        await until(lambda: not directory.entrance.strangers, "free places")
        for _ in range(60):
            data = bytearray()
            for message in chance.choices(greetings, k=2):
                body = encode(message, 0.0)
                data += len(body).to_bytes(4, "big") + b"\0" + body
            data[chance.randrange(len(data))] = chance.randrange(256)
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(bytes(data))
                await asyncio.sleep(0)
                writer.transport.abort()
        await until(lambda: not directory.entrance.strangers, "the end of all greetings")
        async with member(port, W1, WorkerReport()) as worker:
            await worker.joined()
            assert directory.tables.roster().workers[0].name == "w1"
    assert not [r for r in caplog.records if r.exc_info]


async def test_a_member_that_talks_nonsense_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    """It has the key; the others' tables stay as they are."""
    chance = random.Random(5)
    async with directing() as (directory, port), member(port, W1, WorkerReport()) as good:
        await good.joined()
        for _ in range(20):
            bad = member(port, JoinGateway("g2", "http://h:1", "x"))
            async with bad:
                await until(lambda bad=bad: bad.fault is None or bad._refused, "joined")  # type: ignore[misc]
                connection = bad._connection
                assert connection is not None
                for _ in range(20):
                    message = chance.choice([m for m in samples.TO_DIRECTORY if m != StopDirectory()])
                    data = bytearray(encode(message, 0.0))
                    data[4 + chance.randrange(len(data) - 4)] = chance.choice(b'0123456789"-[]{}e.x')
                    if not connection.ended:
                        connection.post(bytes(data))
                await until(lambda c=connection: c.ended or not len(c.outbox), "sent")  # type: ignore[misc]
        assert good.fault is None
        await until(lambda: len(directory._members) == 1, "the end of the others")
        assert [w.name for w in directory.tables.roster().workers] == ["w1"]
    assert not [r for r in caplog.records if r.exc_info]


async def test_what_a_member_does_not_read_is_not_piled_up() -> None:
    """An operator's terminal may be stopped for hours."""
    async with directing() as (directory, port), member(port, Watch()) as watcher:
        await watcher.joined()
        ((connection, joined),) = directory._members.items()
        assert joined is not None
        connection.pause_writing()  # its buffers are full
        for _ in range(1000):
            directory._tell({connection: joined})
        assert len(connection.outbox) <= MOST_UNREAD
        directory.tables.drain("host-x")
        connection.resume_writing()
        await until(lambda: watcher.roster.drained == ("host-x",), "the latest roster")
        assert watcher.fault is None


@pytest.mark.parametrize(
    "url", ["http://a b:80", "http://\u00e4:80", "http://a\t:80", "http://[::1", "http://", "x"]
)
def test_gateways_are_at_addresses_that_others_can_use(url: str) -> None:
    with pytest.raises(InvalidInput, match="must be where other gateways reach this one"):
        check_gateway_url(url)
