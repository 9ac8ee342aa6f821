"""`psistream bench gateways`: a short run, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.cli import main
from benchmarks.gateways import bench


def test_a_short_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SETTLE_S", 0.5)
    into = tmp_path / "figures.json"
    options = "--guests 1,2 --idle 1,3 --sessions 2 --seconds 1 --rounds 1"
    assert main(["gateways", *options.split(), "--json", str(into)]) == 0
    told = json.loads(into.read_text("utf-8"))
    watched, connected = told["tables"].values()
    assert [row["guests"] for row in watched] == [0, 1, 2]
    assert [row["connected"] for row in connected] == [0, 1, 3]
    assert watched[0]["packets/s"] < watched[1]["packets/s"] < watched[2]["packets/s"]
    assert all(row["worker, ms/s"] >= 0 for row in (*watched, *connected))
    assert told["figures"]["a guest, for each packet"]["unit"] == "µs"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--guests 13", "--guests may be 12"),
        ("--guests 2,1", "growing whole numbers"),
        ("--idle 256", "--idle 255 at most"),
        ("--sessions 0", "--sessions must be 1 to 64"),
        ("--seconds 0", "--seconds 0.5 to 3600"),
        ("--rounds 0", "--rounds 1 to 1000"),
    ],
)
def test_bad_input_is_one_line(options: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gateways", *options.split()]) == 2
    shown = capsys.readouterr().err
    assert told in shown
    assert len(shown.splitlines()) == 1
