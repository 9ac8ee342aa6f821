"""HTTP routes of pushes: a session's stream is sent by WHIP to a server that distributes it."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from engine.errors import InvalidInput
from engine.wire.strict_json import load_object
from server.http.edge.prefix import public_path
from server.http.services import Services, read_body

FIELDS = ("whip", "token")
MAX_BYTES = 8 * 1024


def push_routes(services: Services) -> APIRouter:
    """A push makes this server call an address of the client's choice, so it requires the server's API key,
    if there is one."""
    router = APIRouter(prefix="/v1/sessions/{session_id}/push")

    @router.post("")
    async def push(request: Request, session_id: str) -> Response:
        """Send the session's stream to a server that speaks WHIP."""
        services.access.admit(request.headers.get("authorization"))
        session = services.gateway.session(session_id)
        services.enter(services.openings, request)
        body = await read_body(request, MAX_BYTES)
        try:
            given = load_object(body.decode("utf-8"), MAX_BYTES)
        except UnicodeDecodeError:
            raise InvalidInput("the body is not text in UTF-8", field="body") from None
        for name, value in given.items():
            if name not in FIELDS:
                raise InvalidInput(f"unknown field {name!r}; known are {', '.join(FIELDS)}", field=name)
            if not isinstance(value, str) and not (name == "token" and value is None):
                raise InvalidInput(f"{name} must be a string", field=name)
        if "whip" not in given:
            raise InvalidInput("whip is missing: the URL to push to", field="whip")
        rates, _ = services.media()
        started = services.pushes.start(session.id, session.fanout, rates, given["whip"], given.get("token"))
        where = public_path(request, f"/v1/sessions/{session.id}/push/{started.id}")
        return JSONResponse(started.described(), 201, {"Location": where})

    @router.get("")
    async def pushes(request: Request, session_id: str) -> Response:
        """The pushes of this session, and their states."""
        services.access.admit(request.headers.get("authorization"))
        session = services.gateway.session(session_id)
        return JSONResponse({"pushes": [push.described() for push in services.pushes.of(session.id)]})

    @router.delete("/{push_id}")
    async def end(request: Request, session_id: str, push_id: str) -> Response:
        """End a push."""
        services.access.admit(request.headers.get("authorization"))
        services.pushes.stop(push_id, services.gateway.session(session_id).id)
        return Response(status_code=204)

    return router
