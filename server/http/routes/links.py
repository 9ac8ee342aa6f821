"""HTTP routes of share links: a session is shared for a limited time, for steering or watching."""

from __future__ import annotations

import math
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from engine.wire.parse import parse_new_link
from server.access.links import ShareLink
from server.gateway.session import GatewaySession
from server.http.edge.prefix import public_path
from server.http.routes.sessions import page_link, read_json
from server.http.services import Services


def link_routes(services: Services) -> APIRouter:
    """Links need the session's own token: a link's token cannot make other links."""
    router = APIRouter(prefix="/v1/sessions/{session_id}/links")

    @router.post("")
    async def make(request: Request, session_id: str) -> Response:
        """Create a link that expires. Its token is returned only here."""
        session = services.owned(request, session_id)
        services.enter(services.openings, request)
        wanted = parse_new_link(await read_json(request) or b"{}")
        link, token = session.links.make(wanted.role, wanted.expires_in_s, services.gateway.sessions.now_s())
        services.gateway.tokens_changed(session)
        page = page_link(request, session.id, token, watch=link.role == "viewer")
        where = public_path(request, f"/v1/sessions/{session.id}/links/{link.id}")
        return JSONResponse({**told(services, link), "token": token, "page": page}, 201, {"Location": where})

    @router.get("")
    async def links(request: Request, session_id: str) -> Response:
        """The links that have not ended, without their tokens."""
        session = services.owned(request, session_id)
        return JSONResponse({"links": [told(services, link) for link in all_of(services, session)]})

    @router.delete("/{link_id}")
    async def end(request: Request, session_id: str, link_id: str) -> Response:
        """End a link now. Clients that use it are disconnected within two seconds."""
        session = services.owned(request, session_id)
        session.links.end(link_id, services.gateway.sessions.now_s())
        services.gateway.tokens_changed(session)
        return Response(status_code=204)

    return router


def all_of(services: Services, session: GatewaySession) -> list[ShareLink]:
    return session.links.all(services.gateway.sessions.now_s())


def told(services: Services, link: ShareLink) -> dict[str, Any]:
    left_s = link.ends_s - services.gateway.sessions.now_s()
    return {"id": link.id, "role": link.role, "expires_in_s": max(0, math.ceil(left_s))}
