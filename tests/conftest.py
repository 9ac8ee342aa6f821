"""Rules for all tests: one thread for numerics, and on the project's own machine a skipped test is a failed one.

PSISTREAM_NO_SKIPS=1 (set by .ci/run) is for machines that have every tool: there, a test that skips itself for want
of one would go unnoticed.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # before numpy, torch or ONNX Runtime read it: tests share cores

NO_SKIPS = os.environ.get("PSISTREAM_NO_SKIPS") == "1"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if NO_SKIPS and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but nothing may be skipped here: {report.longrepr}"
    return report
