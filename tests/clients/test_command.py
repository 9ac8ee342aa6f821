"""What the clients' commands share."""

from __future__ import annotations

import os

import pytest

from clients.command import ClientParser, OutputConsole, run
from clients.errors import BadInput
from engine.commands import runner


def test_a_reader_that_is_gone_ends_a_command_as_it_ends_others() -> None:
    """`psistream view | head` exits with the same status as `yes | head`: 128 + SIGPIPE."""
    reading, writing = os.pipe()
    os.close(reading)

    def show() -> int:
        with os.fdopen(writing, "w", buffering=1, encoding="utf-8") as output:
            OutputConsole(file=output).print("a line")
        return 0

    assert runner.run("psistream", lambda: run("psistream view", show)) == runner.BROKEN_PIPE == 141


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [(int, "0x", "a whole number, not '0x'"), (float, "1,5", "a number, not '1,5'")],
)
def test_what_is_no_number_is_named_in_plain_words(kind: type, text: str, message: str) -> None:
    parser = ClientParser()
    parser.add_subparsers().add_parser("sub").add_argument("--n", type=kind)
    with pytest.raises(BadInput, match=f"argument --n: must be {message}"):
        parser.parse_args(["sub", "--n", text])
