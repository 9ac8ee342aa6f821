"""HTTP routes that copy a session: its snapshot, its control log, and forks of it.

Requests become calls of the gateway. Whoever has a session's own token may copy it.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from engine.wire.parse import parse_fork
from server.http.routes.sessions import opened, read_json
from server.http.services import Services

SAFETENSORS, JSON_LINES = "application/octet-stream", "application/jsonl"


def snapshot_routes(services: Services) -> APIRouter:
    router = APIRouter(prefix="/v1/sessions/{session_id}")

    @router.get("/snapshot")
    async def snapshot(request: Request, session_id: str) -> Response:
        """The state on the screen, as a file of constant size that POST /v1/sessions can continue from."""
        session = services.owned(request, session_id)
        services.enter(services.exports, request, session)
        data = await services.gateway.export(session.id, "snapshot")
        return attached(data, SAFETENSORS, f"{session.id}.safetensors")

    @router.get("/log")
    async def log(request: Request, session_id: str) -> Response:
        """The session's opening and its controls, from which `psistream replay` makes the same video."""
        session = services.owned(request, session_id)
        services.enter(services.exports, request, session)
        data = await services.gateway.export(session.id, "log")
        return attached(data, JSON_LINES, f"{session.id}.jsonl")

    @router.post("/fork")
    async def fork(request: Request, session_id: str) -> Response:
        """A new session that continues from what this one showed."""
        session = services.owned(request, session_id)
        services.enter(services.openings, request)
        wanted = parse_fork(await read_json(request) or b"{}")
        new = await services.gateway.open(
            wanted.prompt,
            wanted.seed,
            fork_of=session.id,
            rewind_s=wanted.rewind_s,
            client=services.client(request),
        )
        return await opened(services, request, new)

    return router


def attached(data: bytes, kind: str, name: str) -> Response:
    """A response to be saved under this name. Session ids are made by the server and need no escaping."""
    return Response(data, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})
