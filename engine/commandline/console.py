"""Where commands print tables."""

from __future__ import annotations

from rich.console import Console


class OutputConsole(Console):
    """If the reader is gone, as in `psistream view | head`, rich would end the process with status 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError
