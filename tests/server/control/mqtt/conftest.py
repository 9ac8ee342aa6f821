"""A broker of Debian's for each test that wants one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rigs.control.mosquitto import Mosquitto, need_mosquitto


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    need_mosquitto()
    with Mosquitto(tmp_path) as broker:
        yield broker
