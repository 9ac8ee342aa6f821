"""The options of `psistream worker`, and those of `serve` that name workers elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import InvalidInput
from server import arguments, cli
from server.worker.hosting import command


def test_mistakes_about_a_worker_that_listens_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "set_up", lambda kind, level: None)  # the log is this process's
    (tmp_path / "weak.key").write_text("secret\n")
    for options, told in {
        "--listen 7070": "--listen must look like 10.0.0.7:7070",
        "--listen 0.0.0.0:7070": "give --key-file",
        f"--listen 127.0.0.1:0 --key-file {tmp_path}/weak.key": "needs 128 bits",
        f"--listen 127.0.0.1:0 --key-file {tmp_path}/none.key": "there is no file",
        "--listen 127.0.0.1:0 --tls-cert c.pem": "belong together",
        "--listen 127.0.0.1:0 --tls-cert c.pem --tls-key k.pem": "no certificate",
        "--listen 127.0.0.1:0 --max-sessions 0": "--max-sessions must be",
    }.items():
        assert cli.main(["worker", "--backend", "fake", *options.split()]) == 2, options
        shown = capsys.readouterr().err
        assert told in shown
        assert len(shown.splitlines()) == 1


def test_workers_elsewhere_are_named_by_their_addresses(tmp_path: Path) -> None:
    key = tmp_path / "worker.key"
    key.write_text("# of all workers\n0123456789abcdeffedcba9876543210\n")
    where = ["--worker", "tcp://10.0.0.7:7070", "--worker", "tls://[fd00::7]:7071"]
    settings = arguments.settings(arguments.parser().parse_args([*where, "--worker-key-file", str(key)]))
    assert (settings.placement, settings.workers) == ("remote", 2)
    assert settings.remotes == ("tcp://10.0.0.7:7070", "tls://[fd00::7]:7071")
    assert settings.worker_key == b"0123456789abcdeffedcba9876543210"
    assert "0123" not in repr(settings)
    assert settings.keeps_spare is False
    for wrong in (["--worker", "gpu0"], ["--worker", "tcp://a:0"], [*where, "--workers", "2"]):
        with pytest.raises(InvalidInput, match="worker"):
            arguments.settings(arguments.parser().parse_args(wrong))
