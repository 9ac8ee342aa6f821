"""Figures of a benchmark: percentiles, a table for people, and one line of JSON for machines."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.machine import one_line
from engine.commandline.console import OutputConsole
from engine.commandline.outputs import naming
from engine.errors import PsistreamError


class BenchError(PsistreamError):
    """The benchmark could not measure anything; the message says why."""

    code = "bench"


def percentile(values: Sequence[float], share: float) -> float:
    """Percentile with linear interpolation between neighbours; NaN for no values."""
    if not values:
        return math.nan
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def duration(seconds: float) -> tuple[float, str]:
    """A duration in its most readable unit."""
    if seconds < 120:
        return round(seconds, 1), "seconds"
    return (round(seconds / 60, 1), "minutes") if seconds < 7200 else (round(seconds / 3600, 1), "hours")


def summary(values: Sequence[float]) -> dict[str, float | int]:
    figures = {f"p{round(100 * q)}": round(percentile(values, q), 3) for q in (0.5, 0.95, 0.99)}
    return {"n": len(values), **figures, "max": round(max(values), 3)}


@dataclass
class BenchReport:
    """`series` are measured many times, in milliseconds; `singles` once: name → (value, unit); the rows of a
    table in `tables` share their columns."""

    name: str
    machine: dict[str, Any]
    settings: dict[str, Any]
    series: dict[str, Sequence[float]] = field(default_factory=dict)
    singles: dict[str, tuple[float, str]] = field(default_factory=dict)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "benchmark": self.name,
            "machine": self.machine,
            "settings": self.settings,
            "ms": {name: summary(values) for name, values in self.series.items() if values},
            "figures": {name: {"value": value, "unit": unit} for name, (value, unit) in self.singles.items()},
            "tables": self.tables,
            "notes": self.notes,
        }

    def show(self, json_path: Path | None = None) -> None:
        """Print the table, then the JSON on the last line; also write the JSON to `json_path`. Raises
        OSError."""
        console = OutputConsole()
        console.print(f"[bold]psistream bench {self.name}[/bold]")
        console.print(one_line(self.machine), style="dim", highlight=False)
        console.print(", ".join(f"{k} {v}" for k, v in self.settings.items()), style="dim", highlight=False)
        if any(self.series.values()):
            table = Table(box=None, pad_edge=False)
            table.add_column("milliseconds")
            for name in ("n", "p50", "p95", "p99", "max"):
                table.add_column(name, justify="right")
            for name, values in self.series.items():
                if values:
                    row = summary(values)
                    cells = [_number(row[key]) for key in ("p50", "p95", "p99", "max")]
                    table.add_row(name, str(row["n"]), *cells)
            console.print(table)
        for title, rows in self.tables.items():
            console.print(_table(title, rows))
        once = Table(box=None, pad_edge=False, show_header=False)
        once.add_column()
        once.add_column(justify="right")
        for name, (value, unit) in self.singles.items():
            once.add_row(name, f"{_number(value)} {unit}")
        console.print(once)
        for note in self.notes:
            console.print(note, style="dim", highlight=False)
        line = json.dumps(self.to_json(), allow_nan=False)
        print(line, flush=True)
        if json_path is not None:
            with naming(json_path):
                json_path.write_text(line + "\n")


def _table(title: str, rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    for name in rows[0] if rows else ():
        table.add_column(name, justify="left" if isinstance(rows[0][name], str) else "right")
    for row in rows:
        table.add_row(
            *("" if v is None else f"{v:g}" if isinstance(v, float) else str(v) for v in row.values())
        )
    return table


def _number(value: float) -> str:
    whole = isinstance(value, int) or abs(value) >= 1000
    return f"{value:,.0f}".replace(",", " ") if whole else f"{value:.1f}"


def progress(line: str) -> None:
    """Tell people how far a long benchmark is; stdout is for its report."""
    print(line, file=sys.stderr, flush=True)
