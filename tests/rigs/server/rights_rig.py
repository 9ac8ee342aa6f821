"""A key for the server, and settings that let sessions in however busy the machine is."""

from __future__ import annotations

from typing import Any

from engine.config import RuntimeConfig
from server.config import ServerConfig, WorkerConfig
from tests.rigs.server.server_rig import config

KEY = "0f3a5c7e9b1d2468ace013579bdf8642"  # for the server's own key, where a test needs one


def roomy(**changes: Any) -> ServerConfig:
    """One that lets three sessions in however busy this machine is."""
    worker = WorkerConfig(backend="fake", runtime=RuntimeConfig(max_sessions=3, max_load=100.0))
    return config(**{"worker": worker, **changes})
