"""Debian's redis-server."""

from __future__ import annotations

import shutil

from tests.rigs.control.port_server import PortServer
from tests.rigs.skips import need

REDIS = shutil.which("redis-server")


class Redis(PortServer):
    """Keeps nothing on disk."""

    def __init__(self) -> None:
        super().__init__()
        options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--loglevel", "warning"]
        self.command = [REDIS or "redis-server", "--port", str(self.port), *options]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


def need_redis() -> None:
    need(REDIS is not None, "redis-server")
