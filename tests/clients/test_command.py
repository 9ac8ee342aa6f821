"""What the clients' commands share."""

from __future__ import annotations

import os

from clients.command import OutputConsole, run
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
