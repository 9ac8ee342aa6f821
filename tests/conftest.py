"""Rules for all tests: one thread for numerics, what needs a special machine says so by a marker, and where
every tool is installed no test may skip itself.

PSISTREAM_NO_SKIPS=1, set by .ci/run, makes a skipped test a failed one: it would go unnoticed for ever.
"""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Generator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy or torch read it
gc.disable()  # until the tests are collected: thousands of modules are loaded, and none goes away

NO_SKIPS = os.environ.get("PSISTREAM_NO_SKIPS") == "1"
EXPORT_S = 900.0  # of tests that may be the first to need the tiny artifact
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
    if isinstance(collector, pytest.Directory) and report.passed:
        report.result = own_share_first(report.result, collector.config)
    if isinstance(collector, pytest.Module) and report.passed:
        for mark in needed_marks(collector.path):
            if not all(item.get_closest_marker(mark) for item in report.result):
                report.outcome = "failed"
                report.result = []
                report.longrepr = f"{collector.nodeid}: mark every test here with pytest.mark.{mark}"
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`: two processes more than there are cores, six at most. Tests often wait for a server, a
    browser or a deadline."""
    return min(os.cpu_count() or 1, 4) + 2


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of long tests first: whole files are handed out, and one that comes last is waited for by all.
    Long are the browser's, and those whose time limit is above the usual one. Before them comes one file that
    needs the tiny artifact: meanwhile the other processes have something else to do."""
    exporting = min((item.path for item in items if "tiny_artifact" in names_of(item)), default=None)

    def rank(item: pytest.Item) -> tuple[bool, bool, float, Path]:
        limit = item.get_closest_marker("timeout")
        return (
            item.path != exporting,
            item.get_closest_marker("browser") is None,
            -float(limit.args[0]) if limit else 0.0,
            item.path,  # the same order in all of xdist's workers, each of which collects in its own
        )

    files: dict[Path, tuple[bool, bool, float, Path]] = {}
    for item in items:
        files[item.path] = min(rank(item), files.get(item.path, rank(item)))
    items.sort(key=lambda item: files[item.path])
    for item in items:
        if "tiny_artifact" in names_of(item) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(EXPORT_S))


def pytest_collection_finish() -> None:
    """Modules and tests live to the end, so garbage collections leave them out: with PyTorch and all tests
    loaded one takes a third of a second."""
    gc.collect()
    gc.freeze()
    gc.enable()


def own_share_first(
    children: Sequence[pytest.Item | pytest.Collector], config: pytest.Config
) -> list[pytest.Item | pytest.Collector]:
    """Each of xdist's workers begins with other files of a folder. All import all of them, and what one has
    compiled, with its asserts rewritten, the others read: in a fresh checkout that is half of collecting."""
    given: dict[str, Any] = getattr(config, "workerinput", {"workerid": "gw0", "workercount": 1})
    own, workers = int(given["workerid"].removeprefix("gw")), int(given["workercount"])
    files = [child for child in children if isinstance(child, pytest.File)]
    shares = [files[(own + k) % workers :: workers] for k in range(workers)]
    return [*chain(*shares), *(child for child in children if child not in files)]


def names_of(item: pytest.Item) -> list[str]:
    """The fixtures that it needs, also indirectly."""
    names: list[str] = getattr(item, "fixturenames", [])
    return names


def needed_marks(file: Path) -> list[str]:
    text, room = file.read_text("utf-8"), file.parent.name
    return sorted(m for m, words in EXOTIC.items() if room == m or words.search(text))


@pytest.fixture(autouse=True)
def _root_is_needed(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root, as CI has: network namespaces of its own")


@pytest.fixture(scope="session")
def tiny_artifact(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    """A tiny world model, exported once for all tests and all of xdist's workers (half a minute); they copy
    what they spoil. Later runs take it from pytest's cache, until what it is made from or with changes."""
    from tests.rigs.engine.exported import cached_export

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with FileLock(folder / "tiny.lock"):
        if not (folder / "tiny").exists():
            cache = getattr(pytestconfig, "cache", None)
            cached_export(folder / "making", cache.mkdir("tiny") if cache else None)
            (folder / "making").rename(folder / "tiny")
    return folder / "tiny" / "model"
