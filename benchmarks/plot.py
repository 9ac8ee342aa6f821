"""Draws the curves of a soak as a PNG, if matplotlib is installed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.report import BenchError
from engine.commandline.outputs import naming


def curves(path: Path, xs: Sequence[float], series: Mapping[str, Sequence[float]], along: str) -> None:
    """Draw one panel per series, one above the other. Raises BenchError, OSError."""
    try:  # by name: benchmarks without a plot must not need it
        importlib.import_module("matplotlib").use("agg")
        pyplot = importlib.import_module("matplotlib.pyplot")
    except ModuleNotFoundError:
        raise BenchError("--plot needs matplotlib: pip install matplotlib") from None

    figure, panels = pyplot.subplots(
        len(series), 1, sharex=True, figsize=(9, 2.2 * len(series)), squeeze=False
    )
    for panel, (name, values) in zip(panels[:, 0], series.items(), strict=True):
        panel.plot(xs, values, linewidth=0.8)
        panel.set_ylim(bottom=0)
        panel.set_title(name, fontsize=9, loc="left")
    panels[-1, 0].set_xlabel(along)
    figure.tight_layout()
    try:
        with naming(path):
            figure.savefig(path, dpi=110)
    finally:
        pyplot.close(figure)
