"""`psistream workers` against its own server."""

from __future__ import annotations

import pytest

from benchmarks.server.subject import own_server
from clients.workers import main
from tests.rigs.server.fake_device import FAKE_OPTIONS


def test_an_operator_drains_a_worker_and_takes_it_back(capsys: pytest.CaptureFixture[str]) -> None:
    with own_server([*FAKE_OPTIONS, "--workers", "2"]) as server:
        url = ["--url", server.target.base]
        assert main(url) == 0
        assert [row.split()[:3] for row in capsys.readouterr().out.splitlines()[1:]] == [
            ["w1", "running", "1"],
            ["w2", "running", "0"],
        ]
        assert main(["drain", "w1", *url]) == 0
        assert capsys.readouterr().out == "w1 is drained\n"
        assert main(["drain", "w2", *url]) == 1
        assert "w2 is the only worker that accepts sessions now" in capsys.readouterr().err
        assert main(["take-back", "w1", *url]) == 0
        assert main(["drain", "w7", *url]) == 2
        assert "unknown worker 'w7'; the workers are w1, w2" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["drain"], ["list", "w1"], ["explode"], ["--timeout", "-1"]])
def test_bad_input_is_one_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "argument what" not in shown  # which no help names


def test_no_server_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--url", "http://127.0.0.1:9"]) == 1
    assert "cannot reach http://127.0.0.1:9" in capsys.readouterr().err
