"""A store that is away: at the start it is named, and later it hurts no session."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.network.ports import free_port
from engine.errors import Unavailable
from engine.types import SessionClosed
from tests.rigs.server.server_rig import join, recorded, until
from tests.rigs.storage.redis_rig import Redis, need_redis
from tests.server.gateway.storage.test_outside import gateway


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gateway.storage.outside.EVERY_S", 0.01)


async def test_a_store_that_fails_hurts_no_session(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_redis()
    monkeypatch.setattr("server.gateway.storage.outside.BEAT_S", 0.1)
    with Redis() as server:
        async with gateway(server.url) as gate:
            mine = await gate.open("a dog")
            ended: list[SessionClosed] = []
            gate.listen(lambda event: ended.append(event) if isinstance(event, SessionClosed) else None)
            sent = recorded(mine.fanout)
            join(mine.fanout)
            saves = gate.metrics.saves.labels

            def count(result: str) -> float:
                return float(saves(result)._value.get())

            await until(lambda: count("saved") > 2, "saves", 30.0)
            server.kill()
            await until(lambda: count("failed") > 2, "failures", 30.0)
            seen = len(sent)
            await until(lambda: len(sent) > seen + 20, "video")
            server.start()
            before = count("saved")
            await until(lambda: count("saved") > before, "saves again", 30.0)
            assert not ended
    said = [record for record in caplog.records if record.message.startswith("sessions are not saved")]
    assert len(said) == 1
    assert "sessions are saved again" in caplog.text


async def test_what_a_store_has_lost_is_saved_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis may come back empty. Sessions that had not changed were saved six hours later."""
    monkeypatch.setattr("server.gateway.storage.outside.BEAT_S", 0.05)
    store = tmp_path / "store"
    async with gateway(store.as_uri(), every_s=3600.0) as gate:
        saved = store / "sessions" / "main"
        await until(saved.exists, "a save", 30.0)
        shutil.rmtree(store)
        await until(saved.exists, "another save", 30.0)
        assert "the store has lost the saved sessions" in caplog.text
        assert gate.sessions


async def test_a_store_that_is_back_is_said_so_without_a_save(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.gateway.storage.outside.BEAT_S", 0.05)
    async with gateway(tmp_path.as_uri(), every_s=3600.0) as gate:
        saved = gate.metrics.saves.labels("saved")._value
        await until(saved.get, "a save", 30.0)
        mark = tmp_path / "gateways" / "gateway"
        away = mark.parent.rename(tmp_path / "away")
        mark.parent.touch()
        await until(lambda: "sessions are not saved" in caplog.text, "a failure")
        mark.parent.unlink()
        away.rename(mark.parent)
        await until(lambda: "sessions are saved again" in caplog.text, "the end of it")
        assert saved.get() == 1


async def test_what_is_not_saved_before_the_end_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway(tmp_path.as_uri()) as gate:
        await until(lambda: gate.metrics.saves.labels("saved")._value.get(), "a save", 30.0)
        await gate.open("a dog")
        shutil.rmtree(tmp_path / "sessions")
        (tmp_path / "sessions").touch()
    assert "could not be saved before the end" in caplog.text


async def test_a_store_that_is_away_at_the_start_is_named(tmp_path: Path) -> None:
    away = f"redis://:secret@127.0.0.1:{free_port()}/0"
    with pytest.raises(
        Unavailable, match=r"--snapshots cannot be used: redis://127\.0\.0\.1:\d+/0: "
    ) as error:
        async with gateway(away):
            raise AssertionError
    assert "secret" not in error.value.message
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="--snapshots cannot be used: "):
        async with gateway((tmp_path / "file").as_uri()):
            raise AssertionError
