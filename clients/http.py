"""HTTP to a psistream server: directly on this machine, otherwise through the environment's proxy."""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit

import httpx

VARIABLES = ("http_proxy", "https_proxy", "all_proxy")


class ProxyUnusable(Exception):
    """The environment names a proxy that cannot be used; the message is one line for people."""


def http_client(url: str, timeout_s: float) -> httpx.AsyncClient:
    """A client for the server at `url`, to which paths are relative. Raises ProxyUnusable."""
    # a proxy would connect to its own machine; certificates still come from the environment
    if is_loopback(url):
        return httpx.AsyncClient(base_url=url, timeout=timeout_s, transport=httpx.AsyncHTTPTransport())
    try:
        return httpx.AsyncClient(base_url=url, timeout=timeout_s)
    except (ImportError, ValueError) as error:
        raise ProxyUnusable(_why(url, error)) from None


def is_loopback(url: str) -> bool:
    try:
        host = urlsplit(url if "//" in url else f"//{url}").hostname or ""
    except ValueError:
        return False
    if host.rstrip(".").lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _why(url: str, error: Exception) -> str:
    host = urlsplit(url).hostname or url
    given = [name for low in VARIABLES for name in (low, low.upper()) if os.environ.get(name)]
    odd = [name for name in given if urlsplit(os.environ[name]).scheme not in ("http", "https")]
    name = (odd or given or ["the proxy"])[0]
    fix = "pip install 'httpx[socks]', " if isinstance(error, ImportError) else ""
    return f"the proxy in ${name} cannot be used: {fix}unset it, or set NO_PROXY={host}"
