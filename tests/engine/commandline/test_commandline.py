"""What all commands share."""

from __future__ import annotations

import os

import pytest

from clients.errors import ClientError
from engine.commandline.console import OutputConsole
from engine.commandline.parser import Parser
from engine.commandline.runner import BAD_INPUT, BROKEN_PIPE, FAILED, run
from engine.errors import BackendError, InvalidInput, ModelFilesError, ReportedError


def test_a_reader_that_is_gone_ends_a_command_as_it_ends_others() -> None:
    """`psistream view | head` exits with the same status as `yes | head`: 128 + SIGPIPE."""
    reading, writing = os.pipe()
    os.close(reading)

    def show() -> int:
        with os.fdopen(writing, "w", buffering=1, encoding="utf-8") as output:
            OutputConsole(file=output).print("a line")
        return 0

    assert run("psistream view", show) == BROKEN_PIPE == 141


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [(int, "0x", "a whole number, not '0x'"), (float, "1,5", "a number, not '1,5'")],
)
def test_what_is_no_number_is_named_in_plain_words(kind: type, text: str, message: str) -> None:
    parser = Parser()
    parser.add_subparsers().add_parser("sub").add_argument("--n", type=kind)
    with pytest.raises(InvalidInput, match=f"argument --n: must be {message}"):
        parser.parse_args(["sub", "--n", text])


def refused_for_good() -> ClientError:
    error = ClientError("no session 'x'")
    error.called_wrongly = True
    return error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidInput("--n must be 1"), BAD_INPUT),
        (ModelFilesError("m.json is missing"), BAD_INPUT),
        (refused_for_good(), BAD_INPUT),
        (BackendError("the device is lost"), FAILED),
        (ClientError("the connection is lost"), FAILED),
    ],
)
def test_an_error_is_one_line_and_its_kind_decides_on_the_status(
    error: ReportedError, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> int:
        raise error

    assert run("psistream view", fail) == status
    assert capsys.readouterr().err == f"psistream view: {error.message}\n"
