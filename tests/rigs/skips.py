"""Programs of the system that a test needs."""

from __future__ import annotations

import os

import pytest


def need(found: bool, package: str) -> None:
    """Skip without it, but never in CI: there its absence is a fault."""
    if not found:
        if os.environ.get("CI"):
            pytest.fail(f"{package} is not installed: apt-get install {package}")
        pytest.skip(f"{package} is not installed: apt-get install {package}")
