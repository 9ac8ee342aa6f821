"""The interface of a figure: independent jobs whose results are stored, and a summary of the finished ones.

Contains no figures and reads no files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from engine.evaluation.bench import Bench
from engine.evaluation.statistics import Estimate

Row = dict[str, Any]
"""The result of one job as JSON, with everything that the summary needs."""

Cell = Estimate | float | None


@dataclass(frozen=True)
class Scale:
    """Sample sizes and lengths of an evaluation."""

    n: int = 20  # independent seeds
    truths: int = 5  # seeds that are also rendered, in figures where rendering is slow
    journeys_s: tuple[float, ...] = (2.0, 5.0, 10.0, 20.0, 40.0)  # out, and as long back
    durations_s: tuple[float, ...] = (10.0, 30.0, 60.0)
    long_n: int = 3  # seeds that are played beyond a minute
    steps: tuple[int, ...] = (1, 2, 4, 8, 16)


class SheetPicture(NamedTuple):
    """One picture of a contact sheet: (3, H, W) uint8, the text below it, and whether it is right."""

    picture: Tensor
    text: str = ""
    right: bool | None = None


class Strip(NamedTuple):
    """Pictures side by side, with a label."""

    label: str
    shots: Sequence[SheetPicture]


@dataclass(frozen=True)
class Outcome:
    """The result of one job."""

    row: Row
    strips: Sequence[Strip] = ()


Jobs = Mapping[str, Callable[[], Outcome]]


@dataclass
class Table:
    """A table of a report. With `percent`, cells are shares and are shown as per cent."""

    title: str
    columns: Sequence[str]
    rows: list[tuple[str, Sequence[Cell]]] = field(default_factory=list)
    percent: bool = False

    def add(self, label: str, cells: Iterable[Cell]) -> None:
        """Append a row, unless nothing was measured in it."""
        row = list(cells)
        if any(c is not None for c in row):
            self.rows.append((label, row))


@dataclass
class Summary:
    tables: list[Table]
    notes: list[str] = field(default_factory=list)


class Figure(Protocol):
    """One measured property. `version` rises when the meaning of its rows changes."""

    name: str
    title: str
    about: str
    version: int = 1
    needs_reader: bool = False
    needs_others: bool = False

    def jobs(self, bench: Bench, scale: Scale) -> Jobs:
        """The jobs by name, in order."""
        ...

    def summarise(self, rows: Mapping[str, Row], bench: Bench) -> Summary:
        """Summarise the finished jobs, however few."""
        ...


def pick(rows: Mapping[str, Row], **wanted: object) -> list[Row]:
    """The rows with these values, in order of seed."""
    found = [r for r in rows.values() if all(r.get(k) == v for k, v in wanted.items())]
    return sorted(found, key=lambda r: int(r.get("seed", 0)))
