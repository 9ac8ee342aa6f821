"""A fake device with capacity for every session, however busy this machine is.

The device is measured like any other. On a slow machine it would have capacity for one session at the usual
load. Tests that fill the device set their own costs.
"""

from __future__ import annotations

from engine.config import RuntimeConfig
from server.config import WorkerConfig

MAX_LOAD = 100.0
FAKE = WorkerConfig(backend="fake", runtime=RuntimeConfig(max_sessions=3, max_load=MAX_LOAD))
FAKE_OPTIONS = ["--backend", "fake", "--max-load", str(MAX_LOAD)]  # for a server in its own process
