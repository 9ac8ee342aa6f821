"""Does what a figure still lacks, job by job, and writes the report after every figure.

Whatever is done is kept by the store; an interrupted evaluation reports what it has. Knows no
model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from engine.evaluation.bench import Studio
from engine.evaluation.figure import Figure, Jobs, Row, Scale
from engine.evaluation.report import Report, Section, markdown
from engine.evaluation.results import Store, rows_of, strips_of
from engine.evaluation.sheets import compose

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
    """Of all figures in order, those asked for are measured; of the others, what is done stays in the
    report."""

    studio: Studio
    figures: Sequence[Figure]
    asked: Collection[str]
    scale: Scale
    out: Path
    made_with: Mapping[str, str]  # what decides over the rows: where it differs, a figure begins anew


def measure(todo: Evaluation, report: Report, console: Console, said: Said, *, again: bool = False) -> bool:
    """Do what is not done yet, figure by figure; write report and contact sheets after each of them, and when
    interrupted as well. Returns whether it was finished, not interrupted."""
    studio, out, finished, told = todo.studio, todo.out, True, []
    for figure in todo.figures:
        own = {**todo.made_with, "figure": f"{figure.name} {figure.version}"}
        if not figure.needs_others:
            own.pop("against", None)
        wanted = figure.name in todo.asked and finished
        if not wanted:
            if done := rows_of(out / figure.name, own):
                report.sections.append(_section(figure, done, len(done), studio, out))
            continue
        store = Store(out / figure.name, own, again=again)
        if store.discarded:
            console.print(f"{figure.name}: begun anew, since another {store.discarded} was used before")
        jobs = figure.jobs(studio, todo.scale)
        try:
            _work(figure, jobs, store, console, said)
        except KeyboardInterrupt:
            finished = False
        done = {name: store.rows[name] for name in jobs if name in store.rows}
        report.sections.append(_section(figure, done, len(jobs), studio, out))
        told.append(report.sections[-1])
        report.write(out)
    report.write(out)
    tables = [t for section in told for t in section.summary.tables if t.rows]
    print("\n\n".join("\n".join(markdown(table)) for table in tables), end="\n\n")
    print(f"{out / 'report.md'}, report.json and contact sheets beside it")
    if not finished:
        print("interrupted; the same command goes on from here")
    return finished


def _section(figure: Figure, done: Mapping[str, Row], wanted: int, studio: Studio, out: Path) -> Section:
    """With a contact sheet of some jobs from all over the list."""
    section = Section(figure, figure.summarise(done, studio), len(done), wanted)
    folder = out / figure.name
    pictures = {name: found for name in done if (found := strips_of(folder, name))}
    if pictures:
        section.sheet = f"{figure.name}.png"
        strips = [strip for name in _spread(list(pictures), SHEET_JOBS) for strip in pictures[name]]
        title = f"{figure.title}: {studio.model.name}"
        compose(out / section.sheet, title, figure.about, strips)
    return section


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
