"""Serves under a path of another site, behind a proxy: links include the prefix, routes do not know it.

The prefix is --root-path, or a proxy's X-Forwarded-Prefix. The proxy may strip it from the path or keep it.
A client that makes up a prefix only affects the links in its own responses.
"""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.errors import InvalidInput

PREFIX = re.compile(r"(/[A-Za-z0-9_~.-]{1,64}){1,8}")
SCOPE_KEY = "psistream.prefix"


def checked_prefix(text: str) -> str:
    """The prefix without a trailing slash; empty for none. Raises InvalidInput."""
    prefix = text.rstrip("/")
    if prefix and not _is_prefix(prefix):
        raise InvalidInput("--root-path must look like /video", field="root_path")
    return prefix


def public_path(request: Request, path: str) -> str:
    """A path of this server as seen by the client."""
    return f"{request.scope.get(SCOPE_KEY, '')}{path}"


class Prefix:
    """`root` is the value of --root-path; empty for none."""

    def __init__(self, app: ASGIApp, root: str = "") -> None:
        self._app, self._root = app, root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        forwarded = Headers(scope=scope).get("x-forwarded-prefix", "").rstrip("/")
        prefix = forwarded if _is_prefix(forwarded) else self._root
        path = scope["path"]
        if prefix and path == prefix:  # the page's own links are relative to its folder
            await RedirectResponse(f"{prefix}/", 307)(scope, receive, send)
            return
        if prefix and path.startswith(f"{prefix}/"):
            path = path[len(prefix) :]
        await self._app({**scope, "path": path, "raw_path": path.encode(), SCOPE_KEY: prefix}, receive, send)


def _is_prefix(text: str) -> bool:
    return PREFIX.fullmatch(text) is not None and not {".", ".."} & set(text.split("/"))
