"""Jobs run once, even after interruptions, and the report shows the finished ones."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from engine.backends.fake import FAKE_SPEC
from engine.evaluation.bench import Bench, Model
from engine.evaluation.figure import Jobs, Outcome, Row, Scale, SheetPicture, Strip, Summary, Table
from engine.evaluation.report import Report, shown
from engine.evaluation.results import Store
from engine.evaluation.runner import Evaluation, VideoCounter, evenly_spaced, measure
from engine.evaluation.sheets import strip_image
from engine.evaluation.statistics import Estimate, share


@dataclass
class Counting:
    """A figure that remembers which jobs were run, and can be interrupted."""

    name: str = "counting"
    title: str = "Counting"
    about: str = "Counts."
    version: int = 1
    needs_reader: bool = False
    needs_others: bool = False
    ran: list[int] = field(default_factory=list)
    stop_at: int = -1

    def jobs(self, bench: Bench, scale: Scale) -> Jobs:
        return {f"seed-{i}": partial(self._job, i) for i in range(scale.n)}

    def _job(self, seed: int) -> Outcome:
        if seed == self.stop_at:
            raise KeyboardInterrupt
        self.ran.append(seed)
        shot = SheetPicture(
            torch.full((3, 96, 160), 10 * seed, dtype=torch.uint8), f"seed {seed}", seed % 2 == 0
        )
        return Outcome({"seed": seed, "right": float(seed % 2)}, [Strip(f"seed {seed}", [shot])])

    def summarise(self, rows: Mapping[str, Row], bench: Bench) -> Summary:
        table = Table("seeds", ("right",), percent=True)
        table.add("all", [share([r["right"] for r in rows.values()])])
        return Summary([table], ["A note."])


def run(
    out: Path,
    figure: Counting,
    n: int = 4,
    made_with: Mapping[str, str] | None = None,
    *,
    again: bool = False,
    figures: Sequence[Counting] = (),
) -> tuple[bool, str]:
    output = io.StringIO()
    bench = Bench(Model("fake", FAKE_SPEC, None, None), None, {})  # type: ignore[arg-type]
    todo = Evaluation(bench, figures or [figure], {figure.name}, Scale(n=n), out, made_with or {"model": "a"})
    out.mkdir(exist_ok=True)
    report = Report({"model": "fake"}, ["A warning."])
    finished = measure(todo, report, Console(file=output), VideoCounter(), again=again)
    return finished, output.getvalue()


def test_finished_jobs_do_not_run_again_and_more_seeds_only_add(tmp_path: Path) -> None:
    figure = Counting()
    assert run(tmp_path, figure)[0]
    assert run(tmp_path, figure)[0]
    assert run(tmp_path, figure, 6)[0]
    assert figure.ran == [0, 1, 2, 3, 4, 5]
    assert run(tmp_path, figure, 2, again=True)[0]
    assert figure.ran[-2:] == [0, 1]


def test_rows_of_another_model_are_never_mixed_in(tmp_path: Path) -> None:
    figure = Counting()
    run(tmp_path, figure, 2)
    finished, output = run(tmp_path, figure, 2, {"model": "b"})
    assert (finished, figure.ran) == (True, [0, 1, 0, 1])
    assert "another model" in output
    newer = Counting(version=2)
    run(tmp_path, newer, 2, {"model": "b"})
    assert newer.ran == [0, 1]


def test_an_interrupted_evaluation_reports_its_results_and_continues(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished, _ = run(tmp_path, Counting(stop_at=2))
    assert not finished
    found = json.loads((tmp_path / "report.json").read_text())
    assert (found["figures"]["counting"]["done"], found["figures"]["counting"]["of"]) == (2, 4)
    assert "**Incomplete: 2 of 4 parts.**" in (tmp_path / "report.md").read_text()
    assert "run the same command to continue" in capsys.readouterr().out
    figure = Counting()
    assert run(tmp_path, figure)[0]
    assert figure.ran == [2, 3]
    assert "Incomplete" not in (tmp_path / "report.md").read_text()


def test_figures_that_are_not_asked_for_stay_in_the_report(tmp_path: Path) -> None:
    first, second = Counting(name="first"), Counting(name="second", stop_at=1)
    run(tmp_path, first, 2, figures=[first, second])
    run(tmp_path, second, 2, figures=[first, second])
    found = json.loads((tmp_path / "report.json").read_text())
    assert list(found["figures"]) == ["first", "second"]
    assert [(f["done"], f["of"]) for f in found["figures"].values()] == [(2, 2), (1, 2)]
    assert first.ran == [0, 1]
    run(tmp_path, second, 1, {"model": "b"}, figures=[first, second])
    assert list(json.loads((tmp_path / "report.json").read_text())["figures"]) == ["second"]


def test_a_truncated_line_is_measured_again(tmp_path: Path) -> None:
    run(tmp_path, Counting(), 3)
    rows = tmp_path / "counting" / "rows.jsonl"
    rows.write_text(rows.read_text()[:-20])
    figure = Counting()
    assert run(tmp_path, figure, 3)[0]
    assert figure.ran == [2]
    assert set(Store(tmp_path / "counting", {"model": "a", "figure": "counting 1"}).rows) == {
        "seed-0",
        "seed-1",
        "seed-2",
    }


def test_the_report_is_json_and_markdown_with_a_contact_sheet(tmp_path: Path) -> None:
    run(tmp_path, Counting(), 4)
    found = json.loads((tmp_path / "report.json").read_text())
    (table,) = found["figures"]["counting"]["tables"]
    assert table["shares"]
    assert table["rows"]["all"]["right"]["value"] == 0.5
    assert table["rows"]["all"]["right"]["n"] == 4
    text = (tmp_path / "report.md").read_text()
    assert "| all | 50.0 [15.0, 85.0] |" in text
    assert "- **A warning.**" in text
    assert "![Counting](counting.png)" in text
    with Image.open(tmp_path / "counting.png") as sheet:
        assert sheet.width >= 480
        assert sheet.height > 4 * 96


def test_cells_without_an_interval_or_a_value_are_marked() -> None:
    assert shown(None, percent=True) == "–"
    assert shown(Estimate(0.25, float("nan"), float("nan"), 1), percent=True) == "25.0 (one seed)"
    assert shown(Estimate(1502.4, 1490.0, 1510.0, 9), percent=False) == "1502 [1490, 1510]"
    assert shown(0.125, percent=True) == "12.5"
    assert shown(0.004561, percent=False) == "0.00456"


def test_the_text_of_a_strip_is_green_if_right_and_red_if_wrong() -> None:
    shots = [
        SheetPicture(torch.zeros(3, 96, 160, dtype=torch.uint8), "it says", right) for right in (True, False)
    ]
    image = strip_image(Strip("A label\nof two lines", shots))
    below = torch.from_numpy(np.asarray(image).copy()[98:].astype(np.int64))
    assert ((below[..., 1] - below[..., 0]) > 60).any()  # green
    assert ((below[..., 0] - below[..., 1]) > 60).any()  # red
    assert image.height > 96


def test_a_sheet_shows_evenly_spaced_jobs() -> None:
    names = [str(i) for i in range(100)]
    chosen = evenly_spaced(names, 8)
    assert (len(set(chosen)), chosen[0], chosen[-1]) == (8, "0", "99")
    assert evenly_spaced(names[:3], 8) == ["0", "1", "2"]
