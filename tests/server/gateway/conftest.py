"""Fixtures of the gateway's tests."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Successors that nobody waits for start at once, so that tests need not wait for them either."""
    monkeypatch.setattr("server.gateway.fleet.supervisor.LATER_S", 0.0)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gateway.upkeep.EVERY_S", 0.005)
