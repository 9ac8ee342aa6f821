"""API keys: which are too weak, the format of a key file, and how it is reloaded."""

from __future__ import annotations

import base64
import logging
import random
from pathlib import Path

import pytest

from engine.errors import InvalidInput
from server.config import ServerConfig
from server.keys import CHECK_EVERY_S, KeyRing, check_key, read_keys
from tests.rigs.engine.fakes import ManualClock

STRONG = "7b1e9f0c5a3d48e2b6c4f8a1905d3e7c"
UNLIKELY = ("93dd7ac40dc4bd30dc4bde46734e2615", "8197ba592a72d5c8fe893e23a2222222")  # random, 1 in 50,000


@pytest.mark.parametrize(
    "key",
    [
        "secret",
        "hunter2-hunter2",
        "a" * 64,
        "0123456789" * 3,
        "0123456789abcdef" * 2,
        "changemechangemechangemechangeme!",
        STRONG[:-1],
        "abcdefghijklmnopqrstu",
    ],
)
def test_keys_below_128_bits_are_refused_without_being_printed(key: str) -> None:
    with pytest.raises(InvalidInput, match="128 bits") as refused:
        ServerConfig(api_key=key)
    assert key not in refused.value.message
    assert "openssl rand" in refused.value.message


def test_random_keys_of_every_usual_form_are_strong_enough() -> None:
    dice = random.Random(1)
    for raw in (*map(bytes.fromhex, UNLIKELY), *(dice.randbytes(16) for _ in range(200))):
        url = base64.urlsafe_b64encode(raw).decode().rstrip("=")
        for key in (raw.hex(), raw.hex().upper(), base64.b64encode(raw).decode(), url):
            assert check_key(key, "the key") == key


def written(folder: Path, text: str | bytes) -> Path:
    file = folder / "keys"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    file.chmod(0o600)
    return file


def test_a_file_as_people_have_it(tmp_path: Path) -> None:
    text = f"\r\n# ours\r\n  alice\t{STRONG}  \r\n\r\nbob   {STRONG[::-1]}\r\n\r\n"
    for data in (text.encode("utf-8-sig"), text.encode("utf-16")):
        assert read_keys(written(tmp_path, data)) == {STRONG: "alice", STRONG[::-1]: "bob"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "contains no key"),
        ("# nobody\n", "contains no key"),
        (f"alice {STRONG}\nbob\n", "line 2: write a name and its key"),
        (f"alice = {STRONG}\n", "line 1: write a name and its key"),
        (f"{STRONG}\n", "line 1: write a name and its key"),
        ("\n\nalice secret\n", "line 3: the key is too easy to guess"),
        (f"alice {STRONG}\nbob {STRONG}\n", "line 2: .* twice"),
        (f"alice {STRONG}\nalice {STRONG[::-1]}\n", "line 2: .* twice"),
    ],
)
def test_errors_in_a_key_file_name_the_line_and_never_a_key(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as refused:
        read_keys(written(tmp_path, text))
    assert STRONG not in refused.value.message
    assert "secret" not in refused.value.message


def test_a_file_is_read_again_when_it_changes_and_a_broken_one_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    file = written(tmp_path, f"alice {STRONG}\n")
    ring = KeyRing(None, file, clock)
    assert ring.name_of(STRONG) == "alice"
    for text in ("alice", f"bob {STRONG[::-1]}\n"):
        written(tmp_path, text)
        assert ring.name_of(STRONG) == "alice", "it is looked at once a second"
        clock.now_s += CHECK_EVERY_S
        with caplog.at_level(logging.WARNING):
            kept = ring.name_of(STRONG)
    assert kept is None
    assert ring.name_of(STRONG[::-1]) == "bob"
    told = [record.getMessage() for record in caplog.records]
    assert [line.partition(":")[0] for line in told] == [
        "API keys were not reloaded",
        "API keys reloaded",
    ]
    assert STRONG not in caplog.text
    file.unlink()
    clock.now_s += CHECK_EVERY_S
    assert ring.name_of(STRONG[::-1]) == "bob"


def test_a_key_file_that_others_can_read_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = written(tmp_path, f"alice {STRONG}\n")
    file.chmod(0o644)
    KeyRing(None, file)
    assert "chmod 600" in caplog.text
