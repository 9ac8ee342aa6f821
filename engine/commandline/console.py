"""Where commands print tables."""

from __future__ import annotations

import os
from typing import IO

from rich.console import Console

NO_LIMIT = 10_000


class OutputConsole(Console):
    """In a file or a pipe a row stays one line, for `grep` and others, unless COLUMNS says how wide it may
    be. If the reader is gone, as in `psistream view | head`, rich would end the process with status 1."""

    def __init__(self, file: IO[str] | None = None) -> None:
        super().__init__(file=file)
        if not self.is_terminal and "COLUMNS" not in os.environ:
            self.width = NO_LIMIT

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError
