"""Does what a figure still lacks, job by job, and writes the report after every figure.

Whatever is done is kept by the store; an interrupted evaluation has a report of what there is. Knows no
model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from engine.evaluation.base import Figure, Jobs, Scale
from engine.evaluation.report import Report, Section, markdown
from engine.evaluation.sheets import compose
from engine.evaluation.store import Store
from engine.evaluation.studio import Studio

OK, INTERRUPTED = 0, 130
SHEET_JOBS = 8


class Said:
    """Tells whoever shows progress how much video has been made in the present job."""

    def __init__(self) -> None:
        self._tell: Callable[[str], None] = lambda text: None
        self._video_s = 0.0

    def to(self, tell: Callable[[str], None]) -> None:
        self._tell, self._video_s = tell, 0.0
        tell("")

    def more(self, seconds: float) -> None:
        self._video_s += seconds
        self._tell(f"{self._video_s:.0f} s of video")


@dataclass(frozen=True)
class Evaluation:
    studio: Studio
    figures: Sequence[Figure]
    scale: Scale
    out: Path
    made_with: Mapping[str, str]  # what decides over the rows: where it differs, a figure begins anew


def measure(todo: Evaluation, report: Report, console: Console, said: Said, *, again: bool = False) -> int:
    """Do what is not done yet, figure by figure; write report and contact sheets after each of them, and when
    interrupted as well. Returns the exit status."""
    studio, out = todo.studio, todo.out
    status = OK
    for figure in todo.figures:
        own = {**todo.made_with, "figure": f"{figure.name} {figure.version}"}
        if not figure.needs_others:
            own.pop("against", None)
        store = Store(out / figure.name, own, again=again)
        if store.discarded:
            console.print(f"{figure.name}: begun anew, since another {store.discarded} was used before")
        jobs = figure.jobs(studio, todo.scale)
        try:
            _work(figure, jobs, store, console, said)
        except KeyboardInterrupt:
            status = INTERRUPTED
        done = {name: store.rows[name] for name in jobs if name in store.rows}
        section = Section(figure, figure.summarise(done, studio), len(done), len(jobs))
        pictures = _spread([n for n in done if store.strips(n)], SHEET_JOBS)
        if pictures:
            section.sheet = f"{figure.name}.png"
            strips = [s for name in pictures for s in store.strips(name)]
            compose(out / section.sheet, f"{figure.title}: {studio.model.name}", figure.about, strips)
        report.sections.append(section)
        report.write(out)
        if status != OK:
            break
    tables = [t for section in report.sections for t in section.summary.tables if t.rows]
    print("\n\n".join("\n".join(markdown(table)) for table in tables), end="\n\n")
    print(f"{out / 'report.md'}, report.json and contact sheets beside it")
    if status == INTERRUPTED:
        print("interrupted; the same command goes on from here")
    return status


def _work(figure: Figure, jobs: Jobs, store: Store, console: Console, said: Said) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[now]}"), console=console) as progress:
        task = progress.add_task(figure.name, total=len(jobs), now="")
        for name, job in jobs.items():
            if name not in store.rows:
                said.to(partial(_show, progress, task, name))
                store.add(name, job())
            progress.advance(task)


def _show(progress: Progress, task: TaskID, job: str, text: str) -> None:
    progress.update(task, now=escape(f"{job} {text}"))


def _spread(names: list[str], count: int) -> list[str]:
    """Some of them, from all over the list."""
    if len(names) <= count:
        return names
    return [names[round(i * (len(names) - 1) / (count - 1))] for i in range(count)]
