"""Exit status 2 means that the command was called wrongly, 1 that it could not do what it was asked."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.server.subject import own_server
from server import cli
from tests.rigs.server.fake_device import FAKE_OPTIONS


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with own_server([*FAKE_OPTIONS]) as server:
        yield server.target.base


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "junk").write_bytes(b"junk")
    (tmp_path / "empty.pem").write_text("")
    return tmp_path


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    text = capsys.readouterr().err
    assert text.count("\n") == 1, text
    assert "Errno" not in text
    assert "_ssl.c" not in text
    return text


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("serve --host nosuch.invalid", "cannot listen on nosuch.invalid"),
        ("serve --host 192.0.2.1", "cannot listen on 192.0.2.1"),
        ("serve --api-keys {files}/none", "--api-keys: there is no file"),
        ("serve --mqtt-tls {files}/none.pem {files}/junk", "--mqtt-tls: cannot read"),
        ("serve --mqtt-tls {files}/junk {files}/junk", "--mqtt-tls: .* in PEM form"),
        ("serve --whip ftp://x", "--whip must be an http or https URL"),
        ("worker --backend fake --listen nosuch.invalid:1 --key-file {files}/junk", "--key-file"),
        ("worker --backend fake --listen 127.0.0.1:0 --codecs theora", "--codecs has"),
        ("view {url} --session nosuch --seconds 1", "session"),
        ("view {url} --from {files}/junk --seconds 1", "snapshot"),
        ("workers drain w9 --url {url}", "unknown worker 'w9'"),
    ],
)
def test_a_wrong_call_is_2(
    command: str, message: str, url: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command.format(url=url, files=files).split()
    assert cli.main(words) == 2, capsys.readouterr().err
    assert re.search(message, error_line(capsys))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("serve --port {port}", "is in use"),
        ("worker --backend fake --listen 127.0.0.1:{port}", "cannot listen on 127.0.0.1"),
        ("view http://127.0.0.1:9 --seconds 1", "cannot reach"),
        ("workers --url http://127.0.0.1:9", "cannot reach"),
        ("workers drain w1 --url {url}", "w1 is the only worker"),
    ],
)
def test_what_may_work_later_is_1(
    command: str, message: str, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        assert cli.main(command.format(url=url, port=taken.getsockname()[1]).split()) == 1
    assert message in error_line(capsys)
