"""Checks the Host and Origin of every HTTP request, and adds security headers to every answer.

Pure ASGI. The rules are in server.http.auth; it knows no routes.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.http.auth import Access
from server.http.problems import problem

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
        refused = self._refuse(scope["method"], origin, host)
        trusted = origin is not None and self._access.trusted_origin(origin)

        async def finish(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._add_headers(MutableHeaders(scope=message), scope["path"], origin if trusted else None)
            await send(message)

        if refused is not None:
            await refused(scope, receive, finish)
        elif trusted and scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await Response(headers=PREFLIGHT)(scope, receive, finish)
        else:
            await self._app(scope, receive, finish)

    def _refuse(self, method: str, origin: str | None, host: str | None) -> Response | None:
        if not self._access.known_host(host):
            message = "this server answers to localhost only; name other sites with --allow-origin"
            return problem(403, "forbidden", message, "Host")
        if origin is None or method in SAFE:
            return None
        if self._access.own_origin(origin, host) or self._access.trusted_origin(origin):
            return None
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
