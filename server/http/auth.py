"""Who may do what: bearer tokens of sessions, the server's own key, and which sites' pages may call.

Pure decisions over headers and names; it opens nothing and sends nothing. A server on loopback trusts this
machine: no key is needed, and its session `main` is everybody's.
"""

from __future__ import annotations

import hmac
import ipaddress
from typing import Literal
from urllib.parse import urlsplit

from engine.errors import Forbidden
from server.config import ServerConfig
from server.gateway.session import GatewaySession, unguessable

Role = Literal["driver", "viewer"]
LOCAL_NAMES: frozenset[str | None] = frozenset({"localhost", "127.0.0.1", "::1"})
KEY_NAME = "the server's key"


class Unauthorized(Forbidden):
    """No token, or not a valid one."""

    code = "unauthorized"


class Access:
    def __init__(self, config: ServerConfig) -> None:
        self.loopback, self.origins = config.loopback, frozenset(config.origins)
        self._host = _hostname(f"[{config.host}]" if ":" in config.host else config.host)
        self.api_key = config.api_key or (None if config.loopback else unguessable(24))

    def admit(self, authorization: str | None) -> None:
        """For routes that concern the whole server: opening and listing sessions. Raises Unauthorized."""
        if self.api_key is not None and not _same(bearer(authorization), self.api_key):
            raise Unauthorized("this needs the server's key: send Authorization: Bearer <api key>")

    def role(self, session: GatewaySession, authorization: str | None) -> Role:
        """What this caller may do with the session. Raises Unauthorized."""
        token = bearer(authorization)
        if session.token is None or _same(token, session.token):
            return "driver"
        if session.view_token is not None and _same(token, session.view_token):
            return "viewer"
        if self.api_key is not None and _same(token, self.api_key):
            return "driver"
        raise Unauthorized("this session needs its token: send Authorization: Bearer <token>")

    def steer(self, session: GatewaySession, authorization: str | None) -> None:
        """Raises Unauthorized, or Forbidden for a token that may only watch."""
        if self.role(session, authorization) != "driver":
            raise Forbidden("this token may only watch: steer with the session's own token")

    def known_host(self, host: str | None) -> bool:
        """On loopback only local names and those of trusted sites. Any other name means that a site points
        its own name here (DNS rebinding) to get past the browser's same-origin rule."""
        if not self.loopback or "*" in self.origins:
            return True
        names = {_hostname(netloc(origin)) for origin in self.origins} | LOCAL_NAMES | {self._host}
        return host is not None and _hostname(host) in names

    def is_key(self, token: str) -> bool:
        """Whether this is the server's own key."""
        return self.api_key is not None and _same(token, self.api_key)

    def own_origin(self, origin: str, host: str | None) -> bool:
        """Whether a page of this origin is ours, by the Host header it called with."""
        return host is not None and netloc(origin) == host.lower()

    def trusted_origin(self, origin: str) -> bool:
        return "*" in self.origins or origin in self.origins


def bearer(authorization: str | None) -> str:
    """The token of an Authorization header; empty if there is none."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def client_name(host: str | None) -> str:
    """The name under which a client is counted: its IPv4 address, or its IPv6 /64, which is what a household
    or a machine gets. Behind a proxy on this machine it is the address that the proxy forwards."""
    try:
        address = ipaddress.ip_address((host or "").partition("%")[0])
    except ValueError:
        return host or "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _same(given: str, wanted: str) -> bool:
    return bool(given) and hmac.compare_digest(given.encode(), wanted.encode())


def valid_host(host: str) -> bool:
    """Whether a Host header names a host."""
    try:
        parts = urlsplit(f"//{host}")
        return bool(parts.hostname) and parts.port != 0 and "@" not in host and not set(host) & set("/?#\\")
    except ValueError:
        return False


def netloc(origin: str) -> str:
    """Host and port of an Origin header; empty if it has none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
