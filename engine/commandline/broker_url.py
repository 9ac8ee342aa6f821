"""The URL of an MQTT broker, as commands take it and as a server names its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from engine.errors import InvalidInput


@dataclass(frozen=True)
class BrokerUrl:
    """The address of a broker. `shown` is for people and logs: it has no password."""

    host: str
    port: int
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def shown(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"


def parse_url(url: str) -> BrokerUrl:
    """mqtt://user:password@host:1883 or mqtts://…:8883. Raises InvalidInput; never shows the password."""
    example = "write it like mqtt://user:password@host:1883 or mqtts://host:8883"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidInput(f"the MQTT URL has no valid host and port: {example}", field="mqtt") from None
    if parts.scheme not in ("mqtt", "mqtts") or not host:
        raise InvalidInput(f"the MQTT URL needs a scheme and a host: {example}", field="mqtt")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise InvalidInput(f"the MQTT URL must end after the port: {example}", field="mqtt")
    tls = parts.scheme == "mqtts"
    username = unquote(parts.username) if parts.username is not None else None
    password = unquote(parts.password) if parts.password is not None else None
    return BrokerUrl(host, port or (8883 if tls else 1883), tls, username or None, password)
