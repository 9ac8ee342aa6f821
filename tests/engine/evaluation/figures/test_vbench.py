"""The adapter to VBench: its command line, its results, and the message if it is missing.

A script that takes VBench's flags and writes its result format replaces the real command.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from engine.errors import BackendError, InvalidInput, Unavailable
from engine.evaluation.figures import vbench
from engine.evaluation.statistics import Estimate

STAND_IN = """\
import json, pathlib, sys
args = sys.argv[1:]
assert args[0] == "evaluate", args
flags = dict(zip(args[1::2], args[2::2]))
assert flags["--mode"] == "custom_input", flags
videos = sorted(pathlib.Path(flags["--videos_path"]).glob("*.mp4"))
dimension = flags["--dimension"]
scale = 100 if dimension == "imaging_quality" else 1
share = {"whole": 0.5, "first": 0.75, "last": 0.25}[pathlib.Path(flags["--videos_path"]).name]
each = [{"video_path": str(v), "video_results": share * scale} for v in videos]
if dimension == "dynamic_degree":
    each = [{"video_path": str(v), "video_results": True} for v in videos]
out = pathlib.Path(flags["--output_path"]) / "results_2025-01-31-12:00:00_eval_results.json"
out.write_text(json.dumps({dimension: [share, each]}))
"""


def clip(path: Path, frames: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    vbench.write(path, iter(np.full((32, 48, 3), 4 * i, np.uint8) for i in range(frames)), fps=16)
    return path


def count(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def stand_in(folder: Path, text: str = STAND_IN) -> str:
    script, command = folder / "stand_in.py", folder / "vbench"
    script.write_text(text)
    command.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
    command.chmod(0o755)
    return str(command)


def test_it_is_called_for_one_dimension_with_custom_videos() -> None:
    assert vbench.command("vb", Path("/v"), "dynamic_degree", Path("/o")) == [
        "vb", "evaluate", "--videos_path", "/v", "--dimension", "dynamic_degree",
        "--output_path", "/o", "--mode", "custom_input",
    ]  # fmt: skip


def test_its_results_are_read_and_single_imaging_scores_rescaled(tmp_path: Path) -> None:
    file = tmp_path / "results_x_eval_results.json"
    entries = [
        {"video_path": "/a/b/one.mp4", "video_results": 61.5},
        {"video_path": "two.mp4", "video_results": 40},
    ]
    file.write_text(json.dumps({"imaging_quality": [0.5075, entries]}))
    assert vbench.parse(file, "imaging_quality") == pytest.approx({"one": 0.615, "two": 0.40})
    file.write_text(json.dumps({"dynamic_degree": [0.5, [{"video_path": "one.mp4", "video_results": True}]]}))
    assert vbench.parse(file, "dynamic_degree") == {"one": 1.0}


@pytest.mark.parametrize("text", ["", "[]", '{"imaging_quality": [0.5]}', '{"imaging_quality": [0.5, [{}]]}'])
def test_results_in_another_format_are_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "results_eval_results.json"
    file.write_text(text)
    with pytest.raises(BackendError, match=r"results_eval_results.json is not a result of VBench 0.1.5"):
        vbench.parse(file, "imaging_quality")


def test_a_missing_command_is_reported_with_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="pip install torch torchvision vbench"):
        vbench.find(str(tmp_path / "vbench"))


def test_videos_go_in_and_scores_with_their_drift_come_out(tmp_path: Path) -> None:
    command = vbench.find(stand_in(tmp_path))
    for i, video in enumerate(("one", "two")):
        vbench.cut(clip(tmp_path / "own" / f"{video}.mp4", 40 + i), tmp_path / "out")
    assert [count(tmp_path / "out" / part / "two.mp4") for part in vbench.PARTS] == [41, 6, 6]
    scores = vbench.measure(command, tmp_path / "out")
    (table,) = vbench.summarise(scores).tables
    cells = dict(table.rows)["imaging quality"]
    assert isinstance(cells[0], Estimate)
    assert isinstance(cells[1], Estimate)
    assert (cells[0].value, cells[1].value, cells[0].n) == (0.5, 0.5, 2)
    assert len(table.rows) == len(vbench.DIMENSIONS)
    stand_in(tmp_path, "raise SystemExit('not called again')")
    assert vbench.measure(command, tmp_path / "out") == scores


def test_a_video_too_short_for_ends_is_measured_as_a_whole(tmp_path: Path) -> None:
    vbench.cut(clip(tmp_path / "own" / "short.mp4", 12), tmp_path / "out")
    assert (tmp_path / "out" / "whole" / "short.mp4").is_file()
    assert not (tmp_path / "out" / "first").exists()


def test_a_failed_run_is_reported_with_its_last_output(tmp_path: Path) -> None:
    command = vbench.find(
        stand_in(tmp_path, "import sys\nprint('no CUDA device', file=sys.stderr)\nsys.exit(0)")
    )
    clip(tmp_path / "videos" / "one.mp4", 8)
    with pytest.raises(BackendError, match="motion_smoothness gave no scores: no CUDA device"):
        vbench.run(command, tmp_path / "videos", "motion_smoothness", tmp_path / "out")


def test_a_folder_that_its_shell_would_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="choose one of plain letters"):
        vbench.run("vbench", tmp_path / "my videos", "motion_smoothness", tmp_path / "out")


def test_a_file_that_is_no_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "one.mp4").write_text("no video")
    with pytest.raises(InvalidInput, match=r"one.mp4 cannot be read"):
        vbench.cut(tmp_path / "one.mp4", tmp_path / "out")
