"""Progress of a run on the screen: a bar on a terminal if rich is installed, otherwise plain lines."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Screen:
    """Prints lines at any time, and shows the bar between `open` and `close`."""

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.task: TaskID | None = None

    def open(self, stage: str) -> None:
        if not sys.stdout.isatty() or find_spec("rich") is None:
            return
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:.1f} %"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self.task = self.progress.add_task(stage, total=1.0)
        self.progress.start()

    def at(self, share: float, text: str) -> None:
        """`share` (0 to 1) of the budget is spent."""
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, completed=share, description=text)

    def line(self, text: str) -> None:
        if self.progress is not None:
            self.progress.console.print(text, highlight=False, markup=False)
        else:
            print(text, flush=True)

    def close(self) -> None:
        if self.progress is not None:
            self.progress.stop()
            self.progress = None
