"""A fake device with room for every session, however busy this machine is.

It is measured like any other device. On a slow machine one with the usual share of load has room for one
session. Tests that mean to fill the device set costs of their own.
"""

from __future__ import annotations

from engine.config import RuntimeConfig
from server.config import WorkerConfig

MAX_LOAD = 100.0
FAKE = WorkerConfig(backend="fake", runtime=RuntimeConfig(max_sessions=3, max_load=MAX_LOAD))
FAKE_OPTIONS = ["--backend", "fake", "--max-load", str(MAX_LOAD)]  # of a server in a process of its own
