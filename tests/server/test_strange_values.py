"""Values of options that were taken for something else, ignored, or answered with a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from server import cli
from server.worker.hosting.listen import host_and_port
from server.worker.remote import WorkerAddress

KEY = "3f9c0a5d7be1428694d0c7f2ab536e18"
JOIN = "worker --backend fake --listen 127.0.0.1:0 --join tcp://127.0.0.1:1 --advertise"
REFUSED = {
    "worker --backend fake --listen http://127.0.0.1:0": "--listen must look like 10.0.0.7:7070 or [::1]",
    "worker --backend fake --listen ::1:0": "--listen must look like 10.0.0.7:7070 or [::1]:7070",
    "worker --backend fake --listen [::1:0": "--listen must look like",
    "worker --backend fake --listen 192.0.2.1:0 --key-file {key}": (
        "cannot listen on 192.0.2.1, port 0: Cannot assign requested address; check --listen\n"
    ),
    JOIN + " ::1:7070": "--advertise must look like",
    JOIN + " http://10.0.0.7:7070": "--advertise must look like",
    "cluster up --listen 127.0.0.1:0 --workers 0 --nam w": "unrecognized arguments: --nam w",
    "cluster up --listen 127.0.0.1:0 --workers 1 --key {key}": "unrecognized arguments: --key",
    "workers --url http://[::1": "is not an address like http://localhost:8080",
    "workers --url http://[x]:1": "is not an address like http://localhost:8080",
    "view http://[::1 --seconds 1": "is not an address like http://localhost:8080",
    "workers --api-key ü": "the token or API key has characters that none has",
    "view http://127.0.0.1:9 --token ü --seconds 1": "the token or API key has characters that none has",
    "saved --snapshots file://{folder}/none": "--snapshots: there is no folder",
    "saved --snapshots file://{folder}#x": "--snapshots may have no ? and #",
    "saved --snapshots s3://bucket/a?b": "--snapshots may have no ? and #",
    "saved --snapshots redis://127.0.0.1:9/0?foo=bar": "is no option of the Redis client",
    "saved --snapshots redis://127.0.0.1:9/0?socket_timeout=x": "is no option of the Redis client",
    "serve --snapshots=": "--snapshots is empty",
}


@pytest.mark.parametrize(("words", "says"), REFUSED.items())
def test_a_strange_value_is_refused_in_one_line(
    words: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "key"
    key.write_text(KEY)
    key.chmod(0o600)
    assert cli.main(words.format(key=key, folder=tmp_path).split()) == 2
    shown = capsys.readouterr().err
    assert says in shown
    assert shown.count("\n") == 1
    assert list(tmp_path.iterdir()) == [key]  # `saved` made a folder that it should only look into


def test_ipv6_addresses_of_a_link_name_their_interface() -> None:
    assert host_and_port("[fe80::1%eth0]:7070", "--listen") == ("fe80::1%eth0", 7070)
    address = WorkerAddress.parse("tls://[fe80::1%en-0.1]:7070")
    assert (address.host, address.port) == ("fe80::1%en-0.1", 7070)
    assert str(address) == "tls://[fe80::1%en-0.1]:7070"
