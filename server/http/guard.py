"""Checks the Host and Origin of every HTTP request, and adds security headers to every response.

Pure ASGI. The rules are in server.http.auth; it knows no routes.
"""

from __future__ import annotations

import logging

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.http.auth import Access, valid_host
from server.http.problems import problem

log = logging.getLogger(__name__)

SAFE = ("GET", "HEAD", "OPTIONS")
EXPOSED = "Location, Link, ETag, Accept-Patch, Retry-After"
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PATCH, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, If-Match",
    "Access-Control-Max-Age": "600",
    "Accept-Post": "application/sdp",
}
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": POLICY,
}


class Guard:
    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin, host = headers.get("origin"), headers.get("host")
        refused = self._refuse(scope, origin, host, headers.get("sec-fetch-site"))
        trusted = origin is not None and self._access.trusted_origin(origin)
        started = False

        async def finish(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                self._add_headers(MutableHeaders(scope=message), scope["path"], origin if trusted else None)
            await send(message)

        if refused is not None:
            await refused(scope, receive, finish)
        elif trusted and scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await Response(headers=PREFLIGHT)(scope, receive, finish)
        else:
            try:
                await self._app(scope, receive, finish)
            except Exception:  # the outermost: an internal error gives one log entry and a plain response
                log.exception("%s %.200s failed", scope["method"], scope["path"])
                if not started:
                    answer = problem(500, "internal", "internal error, see the server's log")
                    await answer(scope, receive, finish)

    def _refuse(
        self, scope: Scope, origin: str | None, host: str | None, fetch_site: str | None
    ) -> Response | None:
        if host is not None and not valid_host(host):
            return problem(400, "invalid", "the Host header does not name a host", "Host")
        if b"%2f" in scope.get("raw_path", b"").lower() and scope["path"].startswith("/v1/sessions/"):
            return problem(404, "unknown_session", "no session has this id: ids have no slash", "session")
        if not self._access.known_host(host):
            message = "this server answers to localhost only; name other sites with --allow-origin"
            return problem(403, "forbidden", message, "Host")
        own = origin is not None and self._access.own_origin(origin, host)
        if own or (origin is not None and self._access.trusted_origin(origin)):
            return None
        if origin is None or scope["method"] in SAFE:
            embedded = fetch_site in ("cross-site", "same-site") and scope["path"].startswith("/v1/")
            if not embedded or scope["method"] == "OPTIONS":
                return None  # otherwise an <img> on another site could use up the user's share
        message = "pages of other sites may not do this; name the site with --allow-origin"
        return problem(403, "forbidden", message, "Origin")

    def _add_headers(self, headers: MutableHeaders, path: str, origin: str | None) -> None:
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        headers.setdefault("Cache-Control", "no-store" if path.startswith("/v1/") else "no-cache")
        if origin is not None:
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Expose-Headers"] = EXPOSED
            headers.add_vary_header("Origin")
