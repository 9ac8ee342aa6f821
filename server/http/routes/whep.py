"""WHEP (draft-ietf-wish-whep): a viewer connects with one HTTP POST, so existing players work.

It is lenient where existing players deviate from the draft: If-Match is not required, `If-Match: *` with the
same credentials means trickle, and leaving twice is allowed. A viewer's URL is unguessable, so it needs no
token.
"""

from __future__ import annotations

import contextlib
import re
from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from engine.errors import InvalidInput, PsistreamError
from server.config import IceServer
from server.http.auth import bearer
from server.http.edge.prefix import public_path
from server.http.problems import WrongType, WrongVersion
from server.http.services import Services, read_body
from server.webrtc.adapter.restart import Credentials
from server.webrtc.media import START_BPS
from server.webrtc.signalling.choice import choose
from server.webrtc.signalling.offer import MAX_SDP_BYTES, read_candidates, read_offer
from server.webrtc.viewer import Seat, Viewer

SDP, FRAGMENT = "application/sdp", "application/trickle-ice-sdpfrag"
MAX_FRAGMENT_BYTES = 16 * 1024
ICE_CHARS = re.compile(r"[A-Za-z0-9+/]+")
MAX_KBPS = 1_000_000
SDP_LINE = re.compile(r"[a-z]=\S")
AT_ENDPOINT, AT_VIEWER = "OPTIONS, GET, HEAD, POST", "OPTIONS, GET, HEAD, PATCH, DELETE"


def whep_routes(services: Services) -> APIRouter:
    """`/whep/` is the same as `/whep`: some players add the slash."""
    router = APIRouter(prefix="/v1/sessions/{session_id}/whep")

    @router.post("")
    @router.post("/")
    async def watch(request: Request, session_id: str) -> Response:
        """Watch a session: an SDP offer comes in, the answer goes out."""
        session = await services.joined(request, session_id)
        services.enter(services.joinings, request, session)
        expect(request, SDP)
        start_bps = start_of(request.query_params.get("start_kbps"))
        offer = read_offer(await read_body(request, MAX_SDP_BYTES))
        rates, picture = services.media()
        codec = await choose(services.gateway.encoders, offer, request.query_params.get("codec"), picture)
        token = bearer(request.headers.get("authorization"))
        role = services.access.role_of(session, token)
        seat = Seat(
            session=session.id,
            fanout=session.fanout,
            steering=services.gateway.shown,
            pts_of=session.pts_of,
            may_steer=role != "viewer",
            rates=rates,
            start_bps=start_bps,
            token=token,
            allowed=partial(services.access.still, session, token, role),
            client=services.client(request),
        )
        viewer, answer = await services.viewers.open(seat, offer, codec)
        response = Response(answer, 201, media_type=SDP)
        response.headers["Location"] = public_path(request, f"/v1/sessions/{session.id}/whep/{viewer.id}")
        response.headers["Accept-Patch"] = FRAGMENT
        response.headers["ETag"] = etag(viewer)
        return linked(response, services)

    @router.options("")
    @router.options("/")
    async def capabilities(request: Request, session_id: str) -> Response:
        """A client that may watch learns the ICE servers, with their credentials, before it makes its
        offer."""
        response = Response(headers={"Allow": AT_ENDPOINT, "Accept-Post": SDP})
        with contextlib.suppress(PsistreamError):
            services.watched(request, session_id)
            return linked(response, services)
        return response

    @router.get("")
    @router.get("/")
    async def endpoint(request: Request, session_id: str) -> Response:
        """Whether the session is there."""
        services.gateway.session(session_id)
        return Response(status_code=204, headers={"Accept-Post": SDP})

    @router.head("")
    @router.head("/")
    async def endpoint_head(request: Request, session_id: str) -> Response:
        """The same, as newer drafts of WHEP want it answered: 200 with the media type."""
        services.gateway.session(session_id)
        return Response(headers={"Content-Type": SDP, "Accept-Post": SDP})

    @router.patch("/{viewer_id}")
    async def trickle(request: Request, session_id: str, viewer_id: str) -> Response:
        """Add ICE candidates."""
        viewer = services.viewers.get(viewer_id, session_id)
        services.enter(services.trickles, request, services.shown(session_id), name=viewer_id)
        expect(request, FRAGMENT)
        match = request.headers.get("if-match", "*")
        if match != "*" and etag(viewer) not in [each.strip() for each in match.split(",")]:
            raise WrongVersion(
                "If-Match names another ICE session: use the ETag of this one", field="If-Match"
            )
        lines = fragment_lines(await read_body(request, MAX_FRAGMENT_BYTES))
        if viewer.offer is None or viewer.remote is None:
            return Response(status_code=204)
        candidates, ufrag = read_candidates(lines, viewer.offer.shared), value(lines, "ice-ufrag")
        # the answer was lost: the client repeats the restart
        lost = viewer.restarts > 0 and request.headers.get("if-match") == "*"
        if ufrag is None or (ufrag == viewer.remote.ufrag and not lost):
            await viewer.add_candidates(candidates)
            return Response(status_code=204)
        given = credentials(ufrag, value(lines, "ice-pwd") or "")
        response = Response(await viewer.restart(given, candidates), 200, media_type=FRAGMENT)
        response.headers["ETag"] = etag(viewer)
        return response

    @router.delete("/{viewer_id}")
    async def leave(session_id: str, viewer_id: str) -> Response:
        """Leave. Twice is no error."""
        if not services.viewers.was_here(viewer_id):
            services.viewers.get(viewer_id, session_id)
            await services.viewers.close(viewer_id)
        return Response(status_code=200)

    @router.get("/{viewer_id}")
    async def resource(session_id: str, viewer_id: str) -> Response:
        """Whether this viewer is there."""
        services.viewers.get(viewer_id, session_id)
        return Response(status_code=204)

    @router.options("/{viewer_id}")
    async def resource_capabilities(session_id: str, viewer_id: str) -> Response:
        return Response(headers={"Allow": AT_VIEWER, "Accept-Patch": FRAGMENT})

    return router


def etag(viewer: Viewer) -> str:
    """The entity tag of the viewer's ICE session; it changes with each restart."""
    return f'"{viewer.id[:8]}.{viewer.restarts}"'


def linked(response: Response, services: Services) -> Response:
    for server in services.config.ice_servers:
        response.headers.append("Link", link(server))
    return response


def expect(request: Request, kind: str) -> None:
    """Check the content type. Raises WrongType."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != kind:
        raise WrongType(f"send Content-Type: {kind}, not {given[:60] or 'none'}", field="Content-Type")


def start_of(kbps: str | None) -> int:
    """The rate to start with: what the viewer's last connection carried, since its link is probably the
    same. A link that carries less is noticed within a second, as ever. Raises InvalidInput."""
    if kbps is None:
        return START_BPS
    if not (kbps.isascii() and kbps.isdigit() and len(kbps) < 10 and 0 < int(kbps) <= MAX_KBPS):
        raise InvalidInput(
            f"start_kbps must be a whole number from 1 to {MAX_KBPS}: kbps of the last link message",
            field="start_kbps",
        )
    return 1000 * int(kbps)


def fragment_lines(body: bytes) -> list[str]:
    """Raises InvalidInput if this is not an SDP fragment."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidInput("the fragment is not text in UTF-8", field="body") from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in lines:
        start, _, value = line.partition(":")
        if not SDP_LINE.match(line) or (start == "a=candidate" and len(value.split()) < 8):
            raise InvalidInput(f"{line[:60]!r} is no line of an SDP fragment", field="body")
    return lines


def value(lines: list[str], name: str) -> str | None:
    """The value of the first attribute with this name."""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(f"a={name}:")), None)


def credentials(ufrag: str, pwd: str) -> Credentials:
    """Raises InvalidInput for credentials that ICE doesn't allow (RFC 8839, section 5.4)."""
    for name, given, least in (("ice-ufrag", ufrag, 4), ("ice-pwd", pwd, 22)):
        if not ICE_CHARS.fullmatch(given) or not least <= len(given) <= 256:
            raise InvalidInput(
                f"a restart needs a={name} with at least {least} of A-Z a-z 0-9 + /", field="body"
            )
    return Credentials(ufrag, pwd)


def link(server: IceServer) -> str:
    """An ICE server as a Link header for the player."""
    parts = [f"<{server.url}>", 'rel="ice-server"']
    if server.username is not None:
        parts += [f'username="{server.username}"', f'credential="{server.credential}"']
        parts.append('credential-type="password"')
    return "; ".join(parts)
