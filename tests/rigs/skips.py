"""Programs and devices that tests need."""

from __future__ import annotations

import os

import pytest

from engine.backends.gpu.driver import cuda_device
from engine.errors import Unavailable


def need(found: bool, package: str) -> None:
    """Skip the test without this program. In CI its absence is a failure."""
    if not found:
        if os.environ.get("CI"):
            pytest.fail(f"{package} is not installed: apt-get install {package}")
        pytest.skip(f"{package} is not installed: apt-get install {package}")


def has_device() -> bool:
    try:
        cuda_device()
    except Unavailable:
        return False
    return True
