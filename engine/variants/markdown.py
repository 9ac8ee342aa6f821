"""The table of variants as Markdown, from the results of engine.variants.table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine.evaluation.figure import Cell, Table
from engine.evaluation.psi.forgetting import SAME
from engine.evaluation.report import markdown
from engine.variants.table import (
    STANDS_FOR,
    Claim,
    MeasuredVariant,
    cells,
    claims,
    difference,
    paper,
    ratings,
)

SHARES: Final = ("all named", "right sign", "dynamic", "recall", "recall by chance", "Δ all named")
NUMBERS: Final = ("ELO", "Fréchet distance", "distance", "smoothness", "background", "subject")
CHANGES: Final = ("Δ distance", "Δ background", "Δ subject")
MEMORY: Final = (
    "error at returns",
    "ψ beyond the window, %",
    "ψ of its own, %",
    "views beyond the window, %",
    *(f"ψ left after {k}" for k in SAME),
)
COMPARED: Final = (
    "all named",
    "right sign",
    "distance",
    "Δ distance",
    "background",
    "subject",
    "Δ subject",
    "error at returns",
)
WORDS: Final = {
    "all named": "adherence",
    "right sign": "obedience",
    "Δ all named": "Δ adherence",
    "dynamic": "videos that move",
}


def text(found: Sequence[MeasuredVariant], head: Mapping[str, Any]) -> str:
    """The whole report. Intervals are 95 %, over seeds."""
    elos = ratings(found)
    values = {v.name: dict(cells(v)) | {"ELO": elos.get(v.name)} for v in found}
    lines = ["# The paper's variants under one budget", ""]
    lines += [f"- {name}: {value}" for name, value in head.items()]
    for title, names, percent in (
        ("shares", SHARES, True),
        ("figures", NUMBERS, False),
        ("first against last 15 %", CHANGES, False),
        ("memory at returns, which only memory can know", MEMORY, False),
    ):
        table = Table(title, [WORDS.get(n, n) for n in names], percent=percent)
        for v in found:
            table.add(v.title, [values[v.name].get(n) for n in names])
        lines += ["", *markdown(table)]
    lines += ["", *_differences(found), "", "## Beside the paper", ""]
    for t in paper():
        lines += [*_beside(t.title, t.rows, found, values), ""]
    return "\n".join([*lines, *_claims(claims(found)), "", *_trained(found)]) + "\n"


def _differences(found: Sequence[MeasuredVariant]) -> list[str]:
    by_name = {v.name: v for v in found}
    table = Table("minus its control, same seeds", ["control", *(WORDS.get(n, n) for n in COMPARED)])
    lines = []
    for v in found:
        if v.control in by_name:
            other = by_name[v.control]
            table.add(v.title, [None, *(difference(v, other, n) for n in COMPARED)])
            lines.append(other.title)
    shown = markdown(table)
    for i, title in enumerate(lines):  # names are not cells
        head, _, *rest = shown[2 + i].split(" | ")
        shown[2 + i] = " | ".join([head, title, *rest])
    return shown if lines else []


def _beside(
    title: str,
    rows: Mapping[str, Mapping[str, float]],
    found: Sequence[MeasuredVariant],
    values: Mapping[str, Mapping[str, Cell]],
) -> list[str]:
    """The paper's figures, with ours for the same columns below them."""
    columns = [c for c in STANDS_FOR if any(c in r for r in rows.values())]
    lines = [f"| {title} | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for name, theirs in rows.items():
        cells_ = [f"{theirs[c]:g}" if c in theirs else "–" for c in columns]
        lines.append(f"| paper: {name} | {' | '.join(cells_)} |")
        for v in found:
            if name in v.paper:
                own = [_short(values[v.name].get(STANDS_FOR[c]), c) for c in columns]
                lines.append(f"| here: {v.title} | {' | '.join(own)} |")
    return lines


def _short(cell: Cell, column: str) -> str:
    if cell is None:
        return "–"
    value = cell if isinstance(cell, float) else cell[0]
    if column == "ELO":
        return f"{value:.0f}"
    return f"{value:.3f}" if "imaging" in column else f"{100 * value:.1f}"


def _claims(found: Sequence[Claim]) -> list[str]:
    """One line per pair of the paper's rows, with the columns in which our difference agrees, disagrees or is
    not resolved."""
    if not found:
        return []
    pairs: dict[tuple[str, str, str], list[Claim]] = {}
    for c in found:
        pairs.setdefault((c.table.split(":")[0], c.better, c.than), []).append(c)
    lines = ["| the paper's difference, and ours | agrees | disagrees | not resolved |", "|---|---|---|---|"]
    for (table, a, b), several in pairs.items():
        by = {
            verdict: ", ".join(
                f"{c.column} ({c.theirs:+.2f}; {c.ours.value:+.3g})" for c in several if c.verdict == verdict
            )
            for verdict in ("agrees", "disagrees", "not resolved")
        }
        lines.append(f"| {table}: {a} minus {b} | " + " | ".join(x or "–" for x in by.values()) + " |")
    return lines


def _trained(found: Sequence[MeasuredVariant]) -> list[str]:
    lines = ["| trained | steps | minutes | error of a 4-step sample |", "|---|---|---|---|"]
    for v in found:
        if not (t := v.trained):
            continue
        cells_ = [f"{t[k]:.3g}" if k in t else "–" for k in ("steps", "minutes", "error_4_steps")]
        lines.append(f"| {v.title} | {' | '.join(cells_)} |")
    return lines
