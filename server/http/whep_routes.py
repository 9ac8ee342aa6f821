"""WHEP (draft-ietf-wish-whep): watching by one HTTP POST, so that existing players can connect.

Lenient where existing players deviate from the draft: If-Match is not required, `If-Match: *` with the same
credentials means trickle, and leaving twice is fine. A viewer's URL is unguessable, so it needs no token.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from engine.errors import InvalidInput
from server.config import IceServer
from server.http.auth import bearer
from server.http.problems import NoRestart, WrongType
from server.http.services import Services, read_body
from server.webrtc.offer import MAX_SDP_BYTES, read_candidates, read_offer
from server.webrtc.viewer import Seat

SDP, FRAGMENT = "application/sdp", "application/trickle-ice-sdpfrag"
MAX_FRAGMENT_BYTES = 16 * 1024


def whep_routes(services: Services) -> APIRouter:
    router = APIRouter(prefix="/v1/sessions/{session_id}/whep")

    @router.post("")
    async def watch(request: Request, session_id: str) -> Response:
        session = services.watched(request, session_id)
        services.enter(services.joinings, request, session)
        expect(request, SDP)
        offer = read_offer(await read_body(request, MAX_SDP_BYTES))
        rates, h264_level = services.media()
        codec = offer.pick(request.query_params.get("codec"), h264_level)
        role = services.access.role(session, request.headers.get("authorization"))
        seat = Seat(
            session=session.id,
            fanout=session.fanout,
            steering=services.gateway,
            pts_of=session.pts_of,
            may_steer=role == "driver",
            rates=rates,
            token=bearer(request.headers.get("authorization")),
            client=services.client(request),
        )
        viewer, answer = await services.viewers.open(seat, offer, codec)
        response = Response(answer, 201, media_type=SDP)
        response.headers["Location"] = f"/v1/sessions/{session.id}/whep/{viewer.id}"
        response.headers["Accept-Patch"] = FRAGMENT
        for server in services.config.ice_servers:
            response.headers.append("Link", link(server))
        return response

    @router.options("")
    async def capabilities(request: Request, session_id: str) -> Response:
        return Response(headers={"Allow": "OPTIONS, GET, HEAD, POST", "Accept-Post": SDP})

    @router.get("")
    async def endpoint(request: Request, session_id: str) -> Response:
        services.gateway.session(session_id)
        return Response(status_code=204)

    @router.head("")
    async def endpoint_head(request: Request, session_id: str) -> Response:
        services.gateway.session(session_id)
        return Response(headers={"Content-Type": SDP, "Accept-Post": SDP})

    @router.patch("/{viewer_id}")
    async def trickle(request: Request, session_id: str, viewer_id: str) -> Response:
        viewer = services.viewers.get(viewer_id, session_id)
        services.enter(services.trickles, request, services.gateway.session(session_id), name=viewer_id)
        expect(request, FRAGMENT)
        lines = fragment_lines(await read_body(request, MAX_FRAGMENT_BYTES))
        ufrags = {line.partition(":")[2].strip() for line in lines if line.startswith("a=ice-ufrag:")}
        offer = viewer.offer
        if offer is not None:
            if ufrags and offer.ufrag not in ufrags:
                raise NoRestart("ICE restart is not supported: DELETE this and POST a new offer", field="sdp")
            await viewer.add_candidates(read_candidates(lines, offer.shared))
        return Response(status_code=204)

    @router.delete("/{viewer_id}")
    async def leave(session_id: str, viewer_id: str) -> Response:
        if not services.viewers.was_here(viewer_id):
            services.viewers.get(viewer_id, session_id)
            await services.viewers.close(viewer_id)
        return Response(status_code=200)

    @router.get("/{viewer_id}")
    @router.head("/{viewer_id}")
    async def resource(session_id: str, viewer_id: str) -> Response:
        services.viewers.get(viewer_id, session_id)
        return Response(status_code=204)

    @router.options("/{viewer_id}")
    async def resource_capabilities(session_id: str, viewer_id: str) -> Response:
        return Response(headers={"Allow": "OPTIONS, GET, HEAD, PATCH, DELETE", "Accept-Patch": FRAGMENT})

    return router


def expect(request: Request, kind: str) -> None:
    """Raises WrongType."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != kind:
        raise WrongType(f"send Content-Type: {kind}, not {given[:60] or 'none'}", field="Content-Type")


def fragment_lines(body: bytes) -> list[str]:
    """Raises InvalidInput."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidInput("the fragment is not text in UTF-8", field="body") from None
    return [line.strip() for line in text.splitlines()]


def link(server: IceServer) -> str:
    """An ICE server as a Link header tells it to the player."""
    parts = [f"<{server.url}>", 'rel="ice-server"']
    if server.username is not None:
        parts += [f'username="{server.username}"', f'credential="{server.credential}"']
        parts.append('credential-type="password"')
    return "; ".join(parts)
