"""Runs the unfinished jobs of each figure, and writes the report after every figure.

The store keeps finished jobs, and an interrupted evaluation reports those. Contains no models.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from engine.evaluation.bench import Bench
from engine.evaluation.figure import Figure, Jobs, Row, Scale
from engine.evaluation.report import Report, Section, markdown
from engine.evaluation.results import Store, rows_of, strips_of
from engine.evaluation.sheets import compose

SHEET_JOBS = 8


class VideoCounter:
    """Counts the video made in the current job and reports it to the progress bar."""

    def __init__(self) -> None:
        self._show: Callable[[str], None] = lambda text: None
        self._video_s = 0.0

    def restart(self, show: Callable[[str], None]) -> None:
        """Count a new job from zero. `show` receives the text."""
        self._show, self._video_s = show, 0.0
        show("")

    def add(self, seconds: float) -> None:
        self._video_s += seconds
        self._show(f"{self._video_s:.0f} s of video")


@dataclass(frozen=True)
class Evaluation:
    """What to measure. The report includes the finished jobs of all `figures`, in order; only those in
    `asked` are measured."""

    bench: Bench
    figures: Sequence[Figure]
    asked: Collection[str]
    scale: Scale
    out: Path
    made_with: Mapping[str, str]  # what the rows depend on: if it differs, a figure starts over


def measure(
    todo: Evaluation, report: Report, console: Console, counter: VideoCounter, *, again: bool = False
) -> bool:
    """Run the unfinished jobs, figure by figure. Write the report and the contact sheets after each figure,
    and after an interrupt. Returns False if it was interrupted."""
    bench, out, finished, sections = todo.bench, todo.out, True, list[Section]()
    for figure in todo.figures:
        own = {**todo.made_with, "figure": f"{figure.name} {figure.version}"}
        if not figure.needs_others:
            own.pop("against", None)
        wanted = figure.name in todo.asked and finished
        if not wanted:
            if done := rows_of(out / figure.name, own):
                report.sections.append(_section(figure, done, len(done), bench, out))
            continue
        store = Store(out / figure.name, own, again=again)
        if store.discarded:
            console.print(f"{figure.name}: starting over, since another {store.discarded} was used before")
        jobs = figure.jobs(bench, todo.scale)
        try:
            _work(figure, jobs, store, console, counter)
        except KeyboardInterrupt:
            finished = False
        done = {name: store.rows[name] for name in jobs if name in store.rows}
        report.sections.append(_section(figure, done, len(jobs), bench, out))
        sections.append(report.sections[-1])
        report.write(out)
    report.write(out)
    tables = [t for section in sections for t in section.summary.tables if t.rows]
    print("\n\n".join("\n".join(markdown(table)) for table in tables), end="\n\n")
    print(f"{out / 'report.md'}, with report.json and contact sheets beside it")
    if not finished:
        print("interrupted; run the same command to continue")
    return finished


def _section(figure: Figure, done: Mapping[str, Row], wanted: int, bench: Bench, out: Path) -> Section:
    """A figure's section, with a contact sheet of up to SHEET_JOBS jobs."""
    section = Section(figure, figure.summarise(done, bench), len(done), wanted)
    folder = out / figure.name
    pictures = {name: found for name in done if (found := strips_of(folder, name))}
    if pictures:
        section.sheet = f"{figure.name}.png"
        strips = [strip for name in evenly_spaced(list(pictures), SHEET_JOBS) for strip in pictures[name]]
        title = f"{figure.title}: {bench.model.name}"
        compose(out / section.sheet, title, figure.about, strips)
    return section


def _work(figure: Figure, jobs: Jobs, store: Store, console: Console, counter: VideoCounter) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[now]}"), console=console) as progress:
        task = progress.add_task(figure.name, total=len(jobs), now="")
        for name, job in jobs.items():
            if name not in store.rows:
                counter.restart(partial(_show, progress, task, name))
                store.add(name, job())
            progress.advance(task)


def _show(progress: Progress, task: TaskID, job: str, text: str) -> None:
    progress.update(task, now=escape(f"{job} {text}"))


def evenly_spaced(names: list[str], count: int) -> list[str]:
    """Up to `count` names, evenly spaced over the list."""
    if len(names) <= count:
        return names
    return [names[round(i * (len(names) - 1) / (count - 1))] for i in range(count)]
