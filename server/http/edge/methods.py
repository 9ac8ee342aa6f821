"""HEAD for every GET, 405 with the right Allow for other methods, and no API path handled by the page's
mount.

Pure ASGI. It reads the methods of a path from the application's routes.
"""

from __future__ import annotations

from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.http.problems import problem

KNOWN = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
API = "/v1"


class Methods:
    """The innermost middleware: the routes of `scope["app"]` are those behind it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _has_route(scope):  # nearly all requests: one look at the routes
            await self._app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        allowed = allowed_methods(scope)
        if not allowed and (path == API or path.startswith(f"{API}/")):
            await problem(404, "not_found", "there is no such address")(scope, receive, send)
        elif not allowed:
            await self._app(scope, receive, send)
        elif method == "HEAD" and "GET" in allowed:
            await self._app({**scope, "method": "GET"}, receive, _without_body(send))
        else:
            answer = problem(405, "method_not_allowed", f"this address takes {', '.join(allowed)}")
            answer.headers["Allow"] = ", ".join(allowed)
            await answer(scope, receive, send)


def allowed_methods(scope: Scope) -> list[str]:
    """The methods of the routes with this path, including HEAD for GET; empty if no route has it. The page's
    mount does not count, since it serves whatever is in its folder."""
    found = [method for method in KNOWN if _has_route({**scope, "method": method})]
    return sorted({*found, *(("HEAD",) if "GET" in found else ())})


def _has_route(scope: Scope) -> bool:
    routes = scope["app"].router.routes
    return any(route.matches(scope)[0] == Match.FULL for route in routes if not isinstance(route, Mount))


def _without_body(send: Send) -> Send:
    async def headers_only(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return headers_only
