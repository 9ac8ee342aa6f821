"""Rules for all tests: one thread for numerics, what needs a special machine says so by a marker, and where
every tool is installed no test may skip itself.

PSISTREAM_NO_SKIPS=1, set by .ci/run, makes a skipped test a failed one: it would go unnoticed for ever.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from pathlib import Path

import pytest
from filelock import FileLock

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy or torch read it

NO_SKIPS = os.environ.get("PSISTREAM_NO_SKIPS") == "1"
# A module of tests that says one of these words, or lies in a folder of this name, bears this marker on each.
EXOTIC = {
    "browser": re.compile(r"\b(playwright|browser_rig)\b"),
    "root": re.compile(r"\b(netns|unshare|nsenter|CLONE_NEW\w+|tc qdisc)\b"),
    "gpu": re.compile(r"\b(to|device)\(.cuda\b"),
}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if NO_SKIPS and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but nothing may be skipped here: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A module whose exotic tests lack their marker is an error: they would run, and fail, everywhere."""
    report = yield
    if isinstance(collector, pytest.Module) and report.passed:
        for mark in needed_marks(collector.path):
            if not all(item.get_closest_marker(mark) for item in report.result):
                report.outcome = "failed"
                report.result = []
                report.longrepr = f"{collector.nodeid}: mark every test here with pytest.mark.{mark}"
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of long tests first: whole files are handed out, and one that comes last is waited for by all.
    Long are the browser's, and those whose time limit is above the usual one."""

    def rank(item: pytest.Item) -> tuple[bool, float]:
        limit = item.get_closest_marker("timeout")
        return item.get_closest_marker("browser") is None, -float(limit.args[0]) if limit else 0.0

    files: dict[Path, tuple[bool, float]] = {}
    for item in items:
        files[item.path] = min(rank(item), files.get(item.path, rank(item)))
    items.sort(key=lambda item: files[item.path])


def needed_marks(file: Path) -> list[str]:
    text, room = file.read_text("utf-8"), file.parent.name
    return sorted(m for m, words in EXOTIC.items() if room == m or words.search(text))


@pytest.fixture(autouse=True)
def _root_is_needed(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root, as CI has: network namespaces of its own")


@pytest.fixture(scope="session")
def tiny_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny world model, exported once for all tests and all of xdist's workers (half a minute); they copy
    what they spoil."""
    from export.wander import export_onnx
    from tests.rigs.engine import tiny

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with FileLock(folder / "tiny.lock"):
        if not (folder / "tiny").exists():
            tiny.write_text_files(folder / "making" / "text")
            export_onnx(
                tiny.world_model(),
                folder / "making" / "model",
                name="tiny",
                steps=2,
                first_steps=3,
                text=folder / "making" / "text",
            )
            (folder / "making").rename(folder / "tiny")
    return folder / "tiny" / "model"
