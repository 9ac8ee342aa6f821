"""Settings of a running server."""

from __future__ import annotations

from typing import Any

from server.config import ServerConfig


def change(settings: ServerConfig, **values: Any) -> None:
    """Change the settings of a running server. A test that needs a short limit sets it when the limit is due,
    so that a slow machine does not reach it earlier."""
    for name, value in values.items():
        object.__setattr__(settings, name, value)
