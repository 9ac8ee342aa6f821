"""One report of all figures so far: JSON for machines, Markdown for people."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

from engine.evaluation.bench import Bench
from engine.evaluation.figure import Cell, Figure, Summary, Table
from engine.evaluation.statistics import Estimate

SURE: Final = 0.99  # the share of clean renders that a probe must read correctly


@dataclass
class Section:
    """A figure's part of the report."""

    figure: Figure
    summary: Summary
    done: int
    wanted: int
    sheet: str = ""  # file name of the contact sheet


@dataclass
class Report:
    """`head` names the model and the instruments; `warnings` apply to all figures."""

    head: dict[str, Any]
    warnings: list[str]
    sections: list[Section] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            **self.head,
            "warnings": self.warnings,
            "figures": {s.figure.name: _section_json(s) for s in self.sections},
        }

    def to_markdown(self) -> str:
        lines = [f"# Evaluation of {self.head['model']}", ""]
        lines += [f"- {name}: {_text(value)}" for name, value in self.head.items()]
        lines += [f"- **{warning}**" for warning in self.warnings]
        for section in self.sections:
            lines += ["", f"## {section.figure.title}", "", section.figure.about, ""]
            if section.done < section.wanted:
                lines += [f"**Incomplete: {section.done} of {section.wanted} parts.**", ""]
            for table in section.summary.tables:
                lines += [*markdown(table), ""] if table.rows else []
            lines += [f"- {note}" for note in section.summary.notes]
            if section.sheet:
                lines += ["", f"![{section.figure.title}]({section.sheet})"]
        return "\n".join(lines) + "\n"

    def write(self, folder: Path) -> None:
        """Both files, each whole or not at all."""
        for name, text in (
            ("report.json", json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n"),
            ("report.md", self.to_markdown()),
        ):
            part = folder / f"{name}.part"
            part.write_text(text)
            os.replace(part, folder / name)


def head(bench: Bench, made_with: Mapping[str, str]) -> dict[str, Any]:
    """The model, its settings, and the instruments with their accuracy."""
    spec = bench.model.spec
    entries: dict[str, Any] = {
        "model": bench.model.name,
        "made with": dict(made_with),
        "steps": f"{spec.steps}, {spec.first_steps} for a scene's first segment",
        "segment": f"{spec.segment_s:g} s",
        "probe, on rendered frames after the autoencoder": _only(bench.probe_accuracy, clean=False),
        "probe, on clean rendered frames": _only(bench.probe_accuracy, clean=True),
    }
    if bench.reader_accuracy:
        after, clean = (_only(bench.reader_accuracy, clean=c) for c in (False, True))
        entries["landmark reader, on single rendered frames after the autoencoder"] = after
        entries["landmark reader, on clean ones"] = clean
    if bench.others:
        entries["against"] = [m.name for m in bench.others]
    entries["machine"] = f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}"
    return entries


def warnings(bench: Bench) -> list[str]:
    """Warnings about the instruments that apply to all figures."""
    weak = [k for k, v in _only(bench.probe_accuracy, clean=True).items() if v < SURE]
    if not weak:
        return []
    return [
        f"The probe reads {', '.join(weak)} correctly in less than {100 * SURE:.0f} % of clean rendered "
        "frames, and the figures include its errors. Train it longer (psistream train probe)."
    ]


def _only(accuracy: Mapping[str, float], *, clean: bool) -> dict[str, float]:
    return {k.removesuffix(" clean"): v for k, v in accuracy.items() if k.endswith(" clean") == clean}


def markdown(table: Table) -> list[str]:
    """The lines of a table, with 95 % intervals in brackets."""
    unit = ", %" if table.percent else ""
    lines = [
        f"| {table.title}{unit} | " + " | ".join(table.columns) + " |",
        "|---" * (1 + len(table.columns)) + "|",
    ]
    return lines + [
        f"| {label} | " + " | ".join(shown(c, percent=table.percent) for c in cells) + " |"
        for label, cells in table.rows
    ]


def shown(cell: Cell, *, percent: bool) -> str:
    """A cell as text, with its 95 % interval in brackets."""
    if cell is None:
        return "–"
    if not isinstance(cell, Estimate):
        return _number(cell, percent)
    if math.isnan(cell.low):
        return f"{_number(cell.value, percent)} (one seed)"
    return f"{_number(cell.value, percent)} [{_number(cell.low, percent)}, {_number(cell.high, percent)}]"


def _number(value: float, percent: bool) -> str:
    if percent:
        return f"{100 * value:.1f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _section_json(section: Section) -> dict[str, Any]:
    return {
        "title": section.figure.title,
        "done": section.done,
        "of": section.wanted,
        "tables": [
            {
                "title": t.title,
                "shares": t.percent,
                "rows": {
                    label: {c: _cell_json(v) for c, v in zip(t.columns, cells, strict=True)}
                    for label, cells in t.rows
                },
            }
            for t in section.summary.tables
            if t.rows
        ],
        "notes": section.summary.notes,
    }


def _cell_json(cell: Cell) -> Any:
    """Numbers as measured: shares between 0 and 1, and null where there is no interval."""
    if not isinstance(cell, Estimate):
        return cell
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in cell._asdict().items()}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_text(v)}" for k, v in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value))
    return f"{value:.3f}" if isinstance(value, float) else str(value)
