"""Sessions in S3, on a server of it: everything there and back, errors that name the fix, a server that is
away or silent for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from benchmarks.network.ports import free_port
from engine.errors import Unavailable
from engine.types import SessionClosed
from server.gateway.gateway import Gateway
from server.gateway.storage.stores.base import StoreFailed
from server.gateway.storage.stores.objects import s3_store
from server.gateway.storage.stores.s3_faults import NO_ACCOUNT, fault_of
from server.metrics import Metrics
from server.storage import StorageConfig
from server.worker.thread import InProcessWorker
from tests.rigs.control.network import Relay
from tests.rigs.server.server_rig import config, join, recorded, until
from tests.rigs.storage.s3_rig import KEY, S3


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with S3() as server:
        yield server


def use(monkeypatch: pytest.MonkeyPatch, account: dict[str, str]) -> None:
    for name, value in account.items():
        monkeypatch.setenv(name, value)


async def grows(number: Callable[[], float], by: int = 1) -> None:
    before = number()
    await until(lambda: number() >= before + by, "progress", 60.0)


@asynccontextmanager
async def gateway(url: str) -> AsyncIterator[Gateway]:
    settings = config(storage=StorageConfig(url, every_s=1.0))
    async with Gateway(settings, partial(InProcessWorker, settings.worker), Metrics()) as gate:
        yield gate


async def test_more_objects_than_a_page_has_are_all_listed(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, s3.account())
    assert len(await s3_store(StorageConfig("s3://many/folder")).names("sessions")) == 1001


@pytest.mark.parametrize(
    ("change", "url", "fix"),
    [
        (
            {},
            "s3://elsewhere/folder",
            "there is no such bucket: make it, or correct the bucket in --snapshots",
        ),
        (
            {"AWS_ACCESS_KEY_ID": "AKIAAAAAAAAAAAAAAAAB"},
            "s3://bucket/x",
            "account is unknown there: correct AWS",
        ),
        (
            {"AWS_SECRET_ACCESS_KEY": "another"},
            "s3://bucket/x",
            "secret is wrong: correct AWS_ACCESS_KEY_ID and",
        ),
        ({"AWS_ACCESS_KEY_ID": KEY + "X"}, "s3://bucket/x", "may not do this: allow it s3:GetObject, s3:Put"),
        (
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
            "s3://bucket/x",
            r"no connection to http://127\.0\.0\.1:1: st",
        ),
        ({"AWS_ENDPOINT_URL": "127.0.0.1:1"}, "s3://bucket/x", "AWS_ENDPOINT_URL must start with http:// or"),
    ],
)
async def test_what_is_wrong_at_the_start_is_one_line_with_the_fix(
    s3: S3, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], url: str, fix: str
) -> None:
    account = {**s3.account(), **change}
    use(monkeypatch, account)
    with pytest.raises(Unavailable, match=fix) as error:
        async with gateway(url):
            raise AssertionError
    assert error.value.message.startswith("--snapshots ")
    assert url in error.value.message
    assert "\n" not in error.value.message
    assert account["AWS_SECRET_ACCESS_KEY"] not in error.value.message


async def test_every_operation_says_that_the_bucket_is_missing(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, s3.account())
    store = s3_store(StorageConfig("s3://elsewhere/folder"))
    for work in (
        store.get("sessions/a"),
        store.put("sessions/a", b"x"),
        store.names("sessions"),
        store.swap("gateways/g", None, b"x"),
        store.delete("sessions/a"),
        store.expire(1.0),
    ):
        with pytest.raises(StoreFailed, match="no such bucket"):
            await work


def test_other_errors_say_what_to_do() -> None:
    """What the client says of servers that cannot be had here, and of those that are none."""
    asked = "Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token in 1ms"
    assert fault_of(f"{asked} - HTTP error: error sending request", "") == NO_ACCOUNT
    page = "Server returned non-2xx status code: 404 Not Found: <!DOCTYPE HTML>\n<html>"
    assert (
        fault_of(page, "http://h:1")
        == "what answers at http://h:1 does not speak S3: correct AWS_ENDPOINT_URL"
    )
    moved = "301: <Error><Code>PermanentRedirect</Code></Error>"
    assert fault_of(moved, "") == "the bucket is in another region: correct AWS_REGION"
    assert fault_of("x" * 500 + "\nmore", "") == "x" * 200
    assert fault_of("", "") == "failed"


async def test_a_server_that_is_away_or_silent_stops_no_picture(
    s3: S3, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("server.gateway.storage.outside.EVERY_S", 0.01)
    monkeypatch.setattr("server.gateway.storage.outside.BEAT_S", 0.2)
    async with Relay(s3.port) as relay:
        use(monkeypatch, s3.account(relay.port))
        async with gateway("s3://bucket/away") as gate:
            mine = await gate.open("a dog")
            ended: list[SessionClosed] = []
            gate.listen(lambda event: ended.append(event) if isinstance(event, SessionClosed) else None)
            sent = recorded(mine.fanout)
            join(mine.fanout)

            def count(result: str) -> float:
                return float(gate.metrics.saves.labels(result)._value.get())

            with monkeypatch.context() as impatient:  # neither at the start nor at the end, on a busy machine
                impatient.setattr("server.gateway.storage.stores.base.TIMEOUT_S", 1.0)
                for harm in (relay.cut, relay.freeze):
                    await grows(lambda: count("saved"), 2)
                    harm()
                    await asyncio.gather(grows(lambda: count("failed")), grows(lambda: len(sent), 20))
                    relay.heal()
            await grows(lambda: count("saved"))
            assert not ended
            store = s3_store(StorageConfig("s3://bucket/away"))
            assert set(await store.names("sessions")) == {"main", mine.id}
            await gate.close_session(mine.id)
            end_s = time.monotonic() + 60
            while mine.id in await store.names("sessions"):
                assert time.monotonic() < end_s
                await asyncio.sleep(0.05)
    said = [
        record.message for record in caplog.records if record.message.startswith("sessions are not saved")
    ]
    assert said
    assert all("s3://bucket/away: " in text for text in said)
    assert "sessions are saved again" in caplog.text


async def test_a_server_that_is_away_at_the_start_is_named(monkeypatch: pytest.MonkeyPatch, s3: S3) -> None:
    use(monkeypatch, s3.account(free_port()))
    with pytest.raises(Unavailable, match="--snapshots cannot be used: s3://bucket/x: no connection to http"):
        async with gateway("s3://bucket/x"):
            raise AssertionError
