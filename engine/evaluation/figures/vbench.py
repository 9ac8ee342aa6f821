"""VBench's six metrics with their real networks, for users who have them: videos in, scores out.

VBench (https://github.com/Vchitect/VBench) needs a GPU, about 2 GiB of weights and pinned packages. So it has
its own environment and runs as a command, one dimension at a time. Every video is measured as a whole, and
its first and last 15 % as separate clips, for the paper's Δ-drift. It accepts any MP4."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import av
import numpy as np

from engine.errors import BackendError, InvalidInput, Unavailable
from engine.evaluation import prompts
from engine.evaluation.bench import Model, script_of
from engine.evaluation.figure import Cell, Summary, Table
from engine.evaluation.statistics import mean, share
from engine.types import ByteArray
from engine.video import Mp4Writer

DIMENSIONS: Final = (
    "imaging_quality",
    "aesthetic_quality",
    "dynamic_degree",
    "motion_smoothness",
    "background_consistency",
    "subject_consistency",
)
PARTS: Final = ("whole", "first", "last")
ENDS: Final = 0.15
FEWEST_FRAMES: Final = 3  # of an end, since smoothness compares three in a row
HOW_TO: Final = (
    "VBench needs its own environment (it pins numpy<2 and transformers==4.33.2, and needs CUDA):\n"
    "  python3.10 -m venv vbench && vbench/bin/pip install torch torchvision vbench\n"
    "then name its command: --vbench vbench/bin/vbench. It downloads its weights when it first runs."
)

Scores = dict[str, dict[str, float]]
"""Dimension → name of the video → score."""


class FrameRange(NamedTuple):
    """Pixel frames [start, stop) of a video."""

    start: int
    stop: int


def parts(frames: int) -> dict[str, FrameRange]:
    """Frame ranges: the whole video, its first and its last 15 % (left out where too short)."""
    length = int(ENDS * frames)
    found = {"whole": FrameRange(0, frames)}
    if length >= FEWEST_FRAMES:
        found |= {"first": FrameRange(0, length), "last": FrameRange(frames - length, frames)}
    return found


def cut(video: Path, folder: Path) -> None:
    """Write the parts of an MP4 to folder/whole, folder/first and folder/last. Raises InvalidInput."""
    with closing(_decoded(video)) as count:
        total = sum(1 for _ in count)
    for name, part in parts(total).items():
        if name == "whole":
            target = folder / name / video.name
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.resolve() != video.resolve():
                shutil.copyfile(video, target)
            continue
        (folder / name).mkdir(parents=True, exist_ok=True)
        with closing(_decoded(video)) as frames:
            write(
                folder / name / video.name,
                (f for i, f in enumerate(frames) if part.start <= i < part.stop),
                fps=rate(video),
            )


def write(path: Path, frames: Iterator[ByteArray], *, fps: int) -> None:
    """(H, W, 3) frames as an MP4."""
    first = next(frames)
    height, width = first.shape[:2]
    with Mp4Writer(path, width=width, height=height, fps=fps) as writer:
        writer.add(first)
        for frame in frames:
            writer.add(frame)


def make(
    model: Model, folder: Path, n: int, say: Callable[[str], None], *, again: bool = False
) -> list[Path]:
    """Make `n` videos of twenty seconds under one prompt each, walking and standing. Existing files are kept
    unless `again`."""
    folder.mkdir(parents=True, exist_ok=True)
    videos = []
    for seed in range(n):
        videos.append(folder / f"seed-{seed:03}.mp4")
        if videos[-1].is_file() and not again:
            continue
        say(f"vbench: {videos[-1].name}")
        _, prompt, rng = prompts.setting("vbench", seed)
        length = model.segments(4.0)
        script, _ = script_of(model.spec, [(length, rng.choice(("right", "left", "idle"))) for _ in range(5)])
        with closing(model.play(prompt, seed=seed, script=script, steps=None)) as made:
            segments = itertools.islice(made, 5 * length)
            write(videos[-1], (frame for s in segments for frame in s), fps=model.spec.fps)
    return videos


def rate(video: Path) -> int:
    """Its frame rate, rounded; 16 if unknown."""
    with av.open(str(video)) as container:
        return max(1, round(float(container.streams.video[0].average_rate or 16)))


def _decoded(video: Path) -> Generator[ByteArray, None, None]:
    try:
        with av.open(str(video)) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24").astype(np.uint8)
    except (OSError, av.FFmpegError, IndexError) as error:
        raise InvalidInput(f"--videos: {video} cannot be read: {error}", field="videos") from None


def command(executable: str, videos: Path, dimension: str, out: Path) -> list[str]:
    """The command that runs VBench on the videos of one folder, for one dimension."""
    return [
        executable,
        "evaluate",
        "--videos_path",
        str(videos),
        "--dimension",
        dimension,
        "--output_path",
        str(out),
        "--mode",
        "custom_input",
    ]


def find(executable: str) -> str:
    """The absolute path of the command. Raises Unavailable that says what to install."""
    found = shutil.which(executable)
    if found is None:
        raise Unavailable(f"the command {executable!r} was not found. {HOW_TO}", field="vbench")
    return str(Path(found).absolute())


def run(executable: str, videos: Path, dimension: str, out: Path) -> dict[str, float]:
    """Scores by video name. Raises BackendError with VBench's last lines of output, InvalidInput for a folder
    whose name its shell would split."""
    videos, out = videos.absolute(), out.absolute()
    for used in (videos, out):
        if any(c.isspace() or c in "'\"$&;()" for c in str(used)):
            raise InvalidInput(f"VBench cannot use the path {used}: choose one of plain letters", field="out")
    out.mkdir(parents=True, exist_ok=True)
    before = _results(out)
    # It starts `python` by name, so its own environment's must come first in PATH.
    path = f"{Path(executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    called = command(executable, videos, dimension, out)
    done = subprocess.run(
        called, capture_output=True, text=True, env={**os.environ, "PATH": path}, check=False
    )
    made = dict(_results(out).items() - before.items())
    if done.returncode or not made:  # it may exit with 0 after an error
        lines = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise BackendError(f"vbench {dimension} gave no scores: {' / '.join(lines) or 'no output'}")
    return parse(max(made, key=lambda path: made[path]), dimension)


def _results(out: Path) -> dict[Path, int]:
    """Result files and the times when they were written."""
    return {path: path.stat().st_mtime_ns for path in out.glob("*_eval_results.json")}


def parse(results: Path, dimension: str) -> dict[str, float]:
    """VBench's result file, {dimension: [mean, [{"video_path", "video_results"}, …]]} → score by name of
    video, between 0 and 1. Raises BackendError."""
    try:
        entries = json.loads(results.read_text(encoding="utf-8"))[dimension][1]
        scores = {Path(e["video_path"]).stem: float(e["video_results"]) for e in entries}
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise BackendError(
            f"{results} is not a result of VBench 0.1.5 for {dimension} ({type(error).__name__}: {error})"
        ) from None
    # The imaging quality of single videos is on MUSIQ's scale of 0 to 100; VBench divides only the mean.
    return {k: v / 100 for k, v in scores.items()} if dimension == "imaging_quality" else scores


def measure(
    executable: str, folder: Path, dimensions: Sequence[str] = DIMENSIONS, *, again: bool = False
) -> dict[str, Scores]:
    """Scores of folder/whole, folder/first and folder/last, stored in folder/scores.json as they come in."""
    file = folder / "scores.json"
    done: dict[str, Scores] = {} if again or not file.is_file() else json.loads(file.read_text())
    for part in PARTS:
        videos = folder / part
        names = {v.stem for v in videos.glob("*.mp4")}
        for dimension in dimensions if names else ():
            scores = done.setdefault(part, {})
            if set(scores.get(dimension, {})) != names:
                scores[dimension] = run(executable, videos, dimension, folder / "vbench" / part)
                file.write_text(json.dumps(done))
    return done


def summarise(scores: dict[str, Scores]) -> Summary:
    """Scores of whole videos, and Δ = |first − last| per video, averaged."""
    table = Table("VBench", ("score", "Δ between the first and last 15 %"))
    for dimension in DIMENSIONS:
        whole, first, last = (scores.get(p, {}).get(dimension, {}) for p in PARTS)
        both = sorted(set(first) & set(last))
        binary = dimension == "dynamic_degree"
        cells: list[Cell] = [(share if binary else mean)(list(whole.values()))]
        table.add(dimension.replace("_", " "), [*cells, mean([abs(first[v] - last[v]) for v in both])])
    notes = [
        "VBench's own networks, with equal weight for every video (VBench itself weights the two "
        "consistencies by frames). They were made for photographs of 512 px and more: for drawings of "
        "160x96, trust only differences."
    ]
    return Summary([table], notes)
