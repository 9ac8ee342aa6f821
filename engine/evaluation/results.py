"""Finished jobs on disk: one line of JSON per job and one picture per strip, so an interrupted evaluation can
continue.

The first line of a figure's file names the model, the instruments and the figure's version. Rows made with
others are discarded, never mixed. Contains no figures.
"""

from __future__ import annotations

import json
from pathlib import Path

from engine.errors import InvalidInput
from engine.evaluation.figure import Outcome, Row
from engine.evaluation.sheets import strip_image

ROWS = "rows.jsonl"


class Store:
    """The folder of one figure. Raises InvalidInput if it cannot be written."""

    def __init__(self, folder: Path, made_with: dict[str, str], *, again: bool = False) -> None:
        self.folder, self.file = folder, folder / ROWS
        self.rows: dict[str, Row] = {}
        self.discarded = ""
        head, rows = _read(self.file)
        if again or head != made_with:
            self.discarded = "" if head is None or again else _differences(head, made_with)
            self._start(made_with)
        else:
            self.rows = rows

    def _start(self, made_with: dict[str, str]) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for old in self.folder.glob("*.png"):
                old.unlink()
            self.file.write_text(json.dumps({"made_with": made_with}) + "\n")
        except OSError as error:
            raise InvalidInput(f"--out: cannot write {self.file}: {error.strerror}", field="out") from None

    def add(self, job: str, outcome: Outcome) -> None:
        """Write the pictures, then the row: a job is finished once its row is on disk."""
        for i, strip in enumerate(outcome.strips):
            strip_image(strip).save(self.folder / f"{job}.{i}.png")
        with self.file.open("a") as f:
            f.write("\n" * (not _ends_with_newline(self.file)) + json.dumps({"job": job, "row": outcome.row}))
            f.write("\n")
        self.rows[job] = json.loads(json.dumps(outcome.row))


def rows_of(folder: Path, made_with: dict[str, str]) -> dict[str, Row]:
    """The finished rows of a figure, by job; none if they were made with something else."""
    head, rows = _read(folder / ROWS)
    return rows if head == made_with else {}


def strips_of(folder: Path, job: str) -> list[Path]:
    """The pictures of a job, in order."""
    return sorted(folder.glob(f"{job}.*.png"))


def _read(file: Path) -> tuple[dict[str, str] | None, dict[str, Row]]:
    """The first line and the rows. Lines that a crash truncated are ignored."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
        head: dict[str, str] = json.loads(lines[0])["made_with"]
    except (OSError, ValueError, KeyError, TypeError):
        return None, {}
    rows = {}
    for line in lines[1:]:
        try:
            found = json.loads(line)
            rows[found["job"]] = found["row"]
        except (ValueError, KeyError, TypeError):
            continue
    return head, rows


def _ends_with_newline(file: Path) -> bool:
    with file.open("rb") as f:
        f.seek(-1, 2)
        return f.read(1) == b"\n"


def _differences(old: dict[str, str], new: dict[str, str]) -> str:
    return ", ".join(sorted(k for k in {*old, *new} if old.get(k) != new.get(k)))
