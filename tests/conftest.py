"""Rules for all tests: one thread for numerics, and where every tool is installed no test may skip itself.

PSISTREAM_NO_SKIPS=1, set by .ci/run, makes a skipped test a failed one: it would go unnoticed for ever.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy or torch read it

NO_SKIPS = os.environ.get("PSISTREAM_NO_SKIPS") == "1"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if NO_SKIPS and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but nothing may be skipped here: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def tiny_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny world model, exported once for all tests (half a minute); they copy what they spoil."""
    from export.wander import export_onnx
    from tests.rigs import tiny

    folder = tmp_path_factory.mktemp("tiny")
    tiny.write_text_files(folder / "text")
    export_onnx(
        tiny.world_model(), folder / "model", name="tiny", steps=2, first_steps=3, text=folder / "text"
    )
    return folder / "model"
