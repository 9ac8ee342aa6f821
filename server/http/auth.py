"""Authorisation: bearer tokens of sessions and links, API keys, and which sites' pages may call the server.

Pure decisions over headers and names; it opens and sends nothing. A server on loopback without keys trusts
this machine: no key is needed, and everybody may steer its session `main`.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from engine.errors import Forbidden
from server.access.tokens import Role, unguessable
from server.config import ServerConfig
from server.gateway.session import GatewaySession
from server.keys import KeyRing

LOCAL_NAMES: frozenset[str | None] = frozenset({"localhost", "127.0.0.1", "::1"})


class Unauthorized(Forbidden):
    """The token is missing or invalid."""

    code = "unauthorized"


class Access:
    def __init__(self, config: ServerConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.loopback, self.origins = config.loopback, frozenset(config.origins)
        self._host = _hostname(f"[{config.host}]" if ":" in config.host else config.host)
        makes_one = not (config.loopback or config.api_key or config.api_keys)
        self.made_key = unguessable(24) if makes_one else None  # told at the start
        self.keys = KeyRing(config.api_key or self.made_key, config.api_keys)

    def admit(self, authorization: str | None) -> None:
        """For routes that concern the whole server: opening and listing sessions. Raises Unauthorized."""
        if self.keys and self.key_name(bearer(authorization)) is None:
            raise Unauthorized("this needs the server's key: send Authorization: Bearer <api key>")

    def role(self, session: GatewaySession, authorization: str | None) -> Role:
        """What this caller may do with the session. Raises Unauthorized."""
        return self.role_of(session, bearer(authorization))

    def role_of(self, session: GatewaySession, token: str) -> Role:
        """The same for a bare token; an empty one means none. Raises Unauthorized."""
        if (role := session.accepts(token, self._clock())) is not None:
            return role
        if self.key_name(token) is not None:
            return "owner"
        if token:
            raise Unauthorized("this token is not of this session, or it has ended: ask for another one")
        raise Unauthorized("this session needs its token: send Authorization: Bearer <token>")

    def still(self, session: GatewaySession, token: str, role: Role) -> bool:
        """Whether a client that was admitted with this token may stay: links expire, and keys are
        replaced."""
        try:
            return self.role_of(session, token) == role
        except Unauthorized:
            return False

    def steer(self, session: GatewaySession, authorization: str | None) -> None:
        """Raises Unauthorized, or Forbidden for a token that may only watch."""
        self.steer_by(session, bearer(authorization))

    def steer_by(self, session: GatewaySession, token: str) -> None:
        """Raises Unauthorized, or Forbidden for a token that may only watch."""
        if self.role_of(session, token) == "viewer":
            raise Forbidden("this token may only watch: steer with the session's own token")

    def own(self, session: GatewaySession, authorization: str | None) -> None:
        """For what outlives a link: copying, sharing and closing. Raises Unauthorized, Forbidden."""
        if self.role(session, authorization) != "owner":
            raise Forbidden(
                "this needs the session's own token, not one of a link or one that may only watch"
            )

    def known_host(self, host: str | None) -> bool:
        """On loopback, only local names and those of trusted sites are accepted. Any other name means that a
        site resolves its own name to this machine (DNS rebinding) to bypass the same-origin policy."""
        if not self.loopback or "*" in self.origins:
            return True
        names = {_hostname(netloc(origin)) for origin in self.origins} | LOCAL_NAMES | {self._host}
        return host is not None and _hostname(host) in names

    def key_name(self, token: str) -> str | None:
        """The name of the API key; None if it is not one of the server's keys."""
        return self.keys.name_of(token)

    def own_origin(self, origin: str, host: str | None) -> bool:
        """Whether a page of this origin is the server's own, judged by the Host header of its request."""
        return host is not None and netloc(origin) == host.lower()

    def trusted_origin(self, origin: str) -> bool:
        return "*" in self.origins or origin in self.origins


def bearer(authorization: str | None) -> str:
    """The token of an Authorization header; empty if there is none."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def client_name(host: str | None) -> str:
    """The name under which a client is counted: its IPv4 address or its IPv6 /64, the usual allocation of a
    household or machine. Behind a proxy on this machine it is the address that the proxy forwards."""
    try:
        address = ipaddress.ip_address((host or "").partition("%")[0])
    except ValueError:
        return host or "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def valid_host(host: str) -> bool:
    """Whether a Host header contains a valid host."""
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
