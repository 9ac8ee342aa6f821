"""The text that the server prints when it is ready: the link to click, and other ways to connect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.config import ServerConfig

if TYPE_CHECKING:
    from server.http.services import Services

defaults = ServerConfig()


def announcement(services: Services, port: int) -> str:
    """One line without secrets, for log collectors."""
    where = f"psistream is live on {services.config.host}, port {port}"
    if services.access.made_key is not None:
        where += "; nobody can open sessions: start it with --api-key or --api-keys"
    return f"{where}; {services.mqtt.greeting}" if services.mqtt is not None else where


def greeting(services: Services, port: int) -> str:
    """The link to click, and at most two lines about other ways to connect."""
    config, access = services.config, services.access
    # not for ::1, which this name is not on every machine
    host = "localhost" if config.host in ("127.0.0.1", "0.0.0.0", "::") else config.host
    main = services.gateway.sessions.get("main")  # with --join it may be another gateway's
    host = f"[{host}]" if ":" in host else host
    where = f"http://{host}:{port}" + (f"/#token={main.token}" if main and main.token else "")
    lines = [f"psistream is live at {where}"]
    if main and main.token_hash and not main.token:
        lines.append("  main goes on from before, with the token that it had; an API key works too")
    if main is None and services.gateway.peers and not config.trusts_machine:
        lines.append("  main is at another gateway, which has printed its link; an API key works too")
    if access.made_key is not None:
        lines.append(f"  to open your own sessions: Authorization: Bearer {access.made_key}")
    if services.mqtt is not None:
        lines.append(f"  {services.mqtt.greeting}")
    other = "" if port == defaults.port else f" {where}"
    lines.append(f"  steer from another terminal: psistream play{other}")
    return "\n".join(lines[:3])
