"""`psistream saved`: what is in the store, whose it is and how old, and its removal."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.network.ports import free_port
from server.gateway.storage.command import main
from server.gateway.storage.saved import pack
from server.gateway.storage.stores.files import FileStore
from tests.server.gateway.storage.test_saved import SAVED


@pytest.fixture
def place(tmp_path: Path) -> str:
    store = FileStore(tmp_path)
    young = replace(SAVED, saved_at=time.time() - 7300, info=replace(SAVED.info, id="g1-a"))
    asyncio.run(store.put("sessions/g1-a", pack(young, 0.0)))
    asyncio.run(store.put("sessions/g2-broken", b"no session"))
    return tmp_path.as_uri()


def test_sessions_are_listed_with_gateway_and_age(
    place: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert main(["--snapshots", place]) == 0
    said = capsys.readouterr().out
    good, broken = sorted(line for line in said.splitlines() if line.lstrip().startswith("g"))
    assert good.split()[:5] == ["g1-a", "g1", "2", "h", "ago"]
    assert SAVED.model in good
    assert "not written by this version" in broken
    monkeypatch.setenv("PSISTREAM_SNAPSHOTS", place)
    assert main(["list"]) == 0
    assert capsys.readouterr().out == said


def test_sessions_are_removed_all_or_none(
    place: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["remove", "g1-a", "g9-x", "--snapshots", place]) == 2
    assert "no session 'g9-x' is saved there" in capsys.readouterr().err
    assert (tmp_path / "sessions" / "g1-a").exists()
    assert main(["remove", "g1-a", "g2-broken", "--snapshots", place]) == 0
    assert capsys.readouterr().out == "g1-a is removed\ng2-broken is removed\n"
    assert not list((tmp_path / "sessions").iterdir())


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        ([], 2, "--snapshots says where to look"),
        (["remove", "--snapshots", "file:///x"], 2, "remove takes the IDs of sessions"),
        (["list", "a", "--snapshots", "file:///x"], 2, "list takes no ID"),
        (["--snapshots", "ftp://x"], 2, "does not know ftp"),
        (["--snapshots", f"redis://127.0.0.1:{free_port()}/0"], 1, "--snapshots cannot be used: redis://127"),
    ],
)
def test_what_is_called_wrongly_is_one_line(
    words: list[str],
    status: int,
    text: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PSISTREAM_SNAPSHOTS", raising=False)
    assert main(words) == status
    said = capsys.readouterr().err
    assert text in said
    assert said.count("\n") == 1
