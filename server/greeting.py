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
    host = "localhost" if config.loopback or config.host in ("0.0.0.0", "::") else config.host
    main = services.gateway.session("main")
    host = f"[{host}]" if ":" in host else host
    where = f"http://{host}:{port}" + (f"/#token={main.token}" if main.token else "")
    lines = [f"psistream is live at {where}"]
    if access.made_key is not None:
        lines.append(f"  to open your own sessions: Authorization: Bearer {access.made_key}")
    if services.mqtt is not None:
        lines.append(f"  {services.mqtt.greeting}")
    other = "" if port == defaults.port else f" {where}"
    lines.append(f"  steer from another terminal: psistream play{other}")
    return "\n".join(lines[:3])
