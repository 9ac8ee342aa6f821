"""Where clients reach an MQTT broker."""

from __future__ import annotations

from typing import NamedTuple


class Reach(NamedTuple):
    """Where clients connect, without user and password, and a description of the broker for people."""

    url: str
    websocket_url: str | None = None
    about: str = ""

    @property
    def shown(self) -> str:
        return f"{self.url} ({self.about})" if self.about else self.url
