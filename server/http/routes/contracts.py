"""The API's description: /openapi.json for programs and /docs for people."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from server.contracts.openapi import openapi
from server.contracts.page import page_of
from server.http.edge.prefix import public_path

STYLED = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"


def contract_routes(routers: Sequence[APIRouter]) -> APIRouter:
    """Routes that describe these routers."""
    router = APIRouter()
    document = openapi(routers)

    @router.get("/openapi.json")
    async def contract(request: Request) -> Response:
        """The API as OpenAPI 3.1."""
        return JSONResponse({**document, "servers": [{"url": public_path(request, "/")}]})

    @router.get("/docs")
    async def page() -> Response:
        """The same for people."""
        return HTMLResponse(page_of(document), headers={"Content-Security-Policy": STYLED})

    return router
