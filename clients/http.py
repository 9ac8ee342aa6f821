"""HTTP to a psistream server: directly on this machine, otherwise through the environment's proxy."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from clients.errors import ViewError, ViewRefused

VARIABLES = ("http_proxy", "https_proxy", "all_proxy")


class ProxyUnusable(Exception):
    """The environment names a proxy that cannot be used; the message is one line for people."""


def http_client(url: str, timeout_s: float) -> httpx.AsyncClient:
    """A client for the server at `url`, to which paths are relative. Raises ProxyUnusable,
    httpx.InvalidURL."""
    # a proxy would connect to its own machine; certificates still come from the environment, where TLS is
    # used: to load them takes longer than many requests
    if is_loopback(url):
        direct = httpx.AsyncHTTPTransport(verify=not url.startswith("http:"))
        return httpx.AsyncClient(base_url=url, timeout=timeout_s, transport=direct)
    base = httpx.URL(url)
    try:
        return httpx.AsyncClient(base_url=base, timeout=timeout_s)
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        raise ProxyUnusable(_why(url, error)) from None


@contextmanager
def as_view_errors(base: str, timeout_s: float) -> Iterator[None]:
    """Raise ViewError for a request inside that gets no answer, ViewRefused if no later one would get one."""
    try:
        yield
    except ProxyUnusable as error:
        raise ViewRefused(str(error)) from None
    except httpx.TimeoutException as error:
        raise ViewError(f"{base} did not answer in {timeout_s:g} s") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ViewError(
            f"cannot reach {base}: is `psistream serve` running there? ({cause(base, error)})"
        ) from error


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


def cause(url: str, error: Exception) -> str:
    """Why the server at `url` did not answer, with the variable of the proxy that was in the way, if any."""
    host = urlsplit(url).hostname or ""
    proxies = {} if is_loopback(url) or proxy_bypass(host) else getproxies()
    name = next((name for name in (urlsplit(url).scheme, "all") if name in proxies), None)
    if name is None or not isinstance(error, httpx.TransportError):
        return str(error)
    variable = next((n for n in (f"{name}_proxy", f"{name}_proxy".upper()) if os.environ.get(n)), name)
    return f"{error}; the way leads through the proxy in ${variable}, unless you set NO_PROXY={host}"


def _why(url: str, error: Exception) -> str:
    host = urlsplit(url).hostname or url
    given = [name for low in VARIABLES for name in (low, low.upper()) if os.environ.get(name)]
    odd = [name for name in given if not _is_http_url(os.environ[name])]
    name = (odd or given or ["the proxy"])[0]
    fix = "pip install 'httpx[socks]', " if isinstance(error, ImportError) else ""
    return f"the proxy in ${name} cannot be used: {fix}unset it, or set NO_PROXY={host}"


def _is_http_url(text: str) -> bool:
    try:
        return httpx.URL(text).scheme in ("http", "https")
    except httpx.InvalidURL:
        return False
