"""A worker with a fault costs what it says, and nothing else: not its connection, not other sessions, not
what is saved."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import InvalidInput, Unavailable
from server.gateway.gateway import Gateway
from server.metrics import Metrics
from server.storage import StorageConfig
from server.worker.messages.events import WorkerReady
from server.worker.wire import schema
from server.worker.wire.codec import decode, encode
from server.worker.wire.event_checks import check_event, check_ready
from server.worker.wire.values import Malformed
from tests.rigs.server.faulty_worker import FaultyWorker, faulty
from tests.rigs.server.port_rig import KEY, listening, remote
from tests.rigs.server.server_rig import config, join, recorded, until
from tests.server.worker.wire import samples
from tests.server.worker.working import Heard

API_KEY = "0123456789abcdeffedcba9876543210"
ODD: list[Any] = [None, True, 0, -1, 1, 1.5, 1e308, 2**53, 2**62, -(2**62), 2**63, 10**30]
ODD += ["", "x" * 300, "\0\n", "../../etc/passwd", "a b/+#", "é", "unknown", [], [None], {}, {"type": "x"}]
LAST = ("SessionClosed", "Fenced", "Orphaned", "Claimed", "Moved")  # these may end the session
Place = tuple[str | int, ...]


def split(message: object) -> tuple[dict[str, Any], bytes]:
    """The header of an encoded message, and its blobs."""
    data = encode(message, 0.0)
    size = int.from_bytes(data[:4], "big")
    return json.loads(data[4 : 4 + size]), data[4 + size :]


def packed(header: dict[str, Any], blobs: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(4, "big") + text + blobs


def paths(value: Any, at: Place = ()) -> Iterator[Place]:
    """Where there is a field, at any depth."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if key not in ("type", "blobs"):
            yield (*at, key)
            if isinstance(inner, dict | list):
                yield from paths(inner, (*at, key))


def changed(header: dict[str, Any], path: Place, value: Any, *, missing: bool) -> dict[str, Any]:
    copy = inner = json.loads(json.dumps(header))
    for key in path[:-1]:
        inner = inner[key]
    if missing:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return copy  # type: ignore[no-any-return]


def odd(seed: int, per_event: int, session: str) -> Iterator[bytes]:
    """Every event, and then with one field missing or odd."""
    chance = random.Random(seed)
    for event in sorted(samples.EVENTS, key=lambda each: type(each).__name__ in LAST):
        if type(event).__name__ == "WorkerLost":
            continue
        header, blobs = split(event)
        header = json.loads(json.dumps(header).replace('"s"', f'"{session}"'))
        yield packed(header, blobs)
        places = list(paths(header))
        for _ in range(per_event if places else 0):
            missing = chance.random() < 0.2
            wrong = changed(header, chance.choice(places), chance.choice(ODD), missing=missing)
            yield packed(wrong, blobs)


@asynccontextmanager
async def beside(folder: Path) -> AsyncIterator[tuple[Gateway, FaultyWorker]]:
    """A gateway with a good worker, w1, and a faulty one, w2, that saves its sessions."""
    settings = config(
        placement="remote",
        host="192.0.2.1",
        api_key=API_KEY,
        worker_key=KEY,
        name="g1",
        storage=StorageConfig(f"file://{folder}", 1.0),
    )
    async with listening() as (_, good), faulty(max_sessions=2, fingerprint="arithmetic") as (worker, bad):
        makers = [lambda hear, port=port: remote(port, hear) for port in (good, bad)]
        async with Gateway(settings, makers, Metrics()) as gate:
            await until(lambda: all(each.ready is not None for each in gate.fleet), "workers")
            yield gate, worker


@pytest.mark.parametrize("seed", range(2))
async def test_whatever_a_worker_reports_the_others_play_on(
    seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A rate of 0 ended the connection with a traceback, and an odd id ended the saving of all sessions."""
    async with beside(tmp_path) as (gate, worker):
        sessions = [await gate.open("a red cat") for _ in range(4)]
        own = next(each for each in sessions if each.worker == "w1")
        theirs = next(each for each in sessions if each.worker == "w2")
        join(own.fanout)
        for codec in ("vp8", "h264", "vp9", "av1"):
            join(theirs.fanout, codec)
        seen, (connection,) = recorded(own.fanout), worker.connections
        for number, data in enumerate(odd(seed, 25, theirs.id)):
            worker.say(data)
            if number % 50 == 0:
                await until(lambda: not len(connection.outbox), "end of what it says")
        for session in ("", "../../x", "a b", "+", "x" * 65, "é"):  # nobody holds these, it says
            for kind in ("orphaned", "claimed"):
                worker.say(packed({"type": kind, "session": session, "epoch": 1}, b""))
        worker.say(packed({"type": "orphaned", "session": "known", "epoch": 1}, b""))
        await until(lambda: any(getattr(o, "session", "") == "known" for o in worker.orders), "claim")
        assert worker.connections == [connection]
        before = len(seen)
        await until(lambda: len(seen) > before + 5, "frames of the other session")
        saved = tmp_path / "sessions" / own.id
        await until(saved.exists, "the saved session")
        time = saved.stat().st_mtime_ns
        await until(lambda: saved.stat().st_mtime_ns > time, "the next time that it is saved")
        assert own.id in gate.session_ids()
    faults = [r for r in caplog.records if r.exc_info]
    assert not faults, faults


async def test_what_is_ignored_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with beside(tmp_path) as (_, worker):
        header, blobs = split(samples.EVENTS[1])
        worker.say(packed({**header, "rate": 0}, blobs))
        worker.say(packed({**header, "frame": "x"}, blobs))
        await until(lambda: "stats.frame: must be a whole number" in caplog.text, "line about the type")
    assert "SegmentStats: rate has a value that no worker reports" in caplog.text
    assert all(r.levelno <= logging.WARNING for r in caplog.records)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("fps", 0),
        ("frames_per_segment", 0),
        ("height", -1),
        ("width", 1 << 40),
        ("state_bytes", -5),
        ("state_bytes", 1 << 50),
        ("idle_share", 2.0),
        ("segment_ms", -1.0),
        ("model", "a\nb"),
        ("actions", ("",)),
    ],
)
async def test_a_worker_that_says_nonsense_of_itself_is_not_used(field: str, value: Any) -> None:
    async with faulty(**{field: value}) as (_, port):
        with pytest.raises(Unavailable, match=f"the worker has a fault: {field} "):
            await remote(port, Heard().hear).start()


async def test_a_message_that_cannot_be_handled_costs_itself(caplog: pytest.LogCaptureFixture) -> None:
    """asyncio ended the connection, with all sessions on it."""
    heard = Heard()

    def hear(event: object) -> None:
        if type(event).__name__ == "Capacity":
            raise RuntimeError("a fault of ours")
        heard.hear(event)  # type: ignore[arg-type]

    async with faulty() as (worker, port):
        link = remote(port, hear)
        await link.start()
        await until(lambda: worker.connections, "connection")
        for event in (samples.EVENTS[10], samples.EVENTS[8]):
            worker.say(encode(event, 0.0))
        await until(lambda: heard, "what follows")
        await link.close()
    assert type(heard[0]).__name__ == "Exported"
    assert "(Capacity) could not be handled" in caplog.text


def test_all_that_workers_report_passes() -> None:
    check_ready(samples.READY)
    for event in samples.EVENTS:
        check_event(event)  # type: ignore[arg-type]


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=80),
    st.sampled_from(ODD),
    st.lists(st.integers(-2, 300), max_size=5),
    st.dictionaries(st.text(max_size=5), st.floats(), max_size=3),
)


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data(), event=st.sampled_from(samples.EVENTS), value=VALUES)
def test_an_event_is_one_refused_or_malformed(data: st.DataObject, event: object, value: Any) -> None:
    """And nothing else happens."""
    header, blobs = split(event)
    places = list(paths(header))
    if not places:
        return
    wrong = changed(header, data.draw(st.sampled_from(places)), value, missing=False)
    try:
        found = decode(packed(wrong, blobs), schema.EVENTS, 0.0)
        if found is not None:
            check_event(found)
            encode(found, 0.0)
    except (Malformed, InvalidInput):
        return
    assert not isinstance(found, WorkerReady)
