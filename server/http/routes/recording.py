"""HTTP routes of the encoded video: clips of the last seconds, and live HLS for players without WebRTC.

Players cannot send headers with the addresses in a playlist, so here a token may also be in the query.
"""

from __future__ import annotations

import asyncio
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import Response

from engine.errors import InvalidInput, Unavailable, UnknownSession
from server.gateway.session import GatewaySession
from server.http.services import Services
from server.ladder import parts
from server.recording.hls import Hls
from server.recording.mux import TYPES, whole_file
from server.webrtc.recent import KEPT_S

PLAYLIST = "application/vnd.apple.mpegurl"
CLIP_S = 30.0


def recording_routes(services: Services) -> APIRouter:
    router = APIRouter(prefix="/v1/sessions/{session_id}")

    def watched(request: Request, session_id: str) -> GatewaySession:
        session = services.gateway.session(session_id)
        token = request.query_params.get("token")
        header = request.headers.get("authorization") or (f"Bearer {token}" if token else None)
        services.access.role(session, header)
        return session

    def live(session: GatewaySession) -> Hls:
        services.close_hls(idle_only=True)
        hls = services.hls.get(session.id)
        if hls is None:
            hls = services.hls[session.id] = Hls(session.fanout)
            hls.start()
        return hls

    @router.get("/clip")
    async def clip(request: Request, session_id: str) -> Response:
        """The last seconds as a file: MP4 where H.264 is watched, else WebM. It starts at a keyframe, up to
        10 s before `seconds`."""
        session = watched(request, session_id)
        services.enter(services.exports, request, session)
        seconds = seconds_of(request.query_params.get("seconds"))
        frames = session.fanout.recent.clip(seconds)
        if not frames:
            raise Unavailable("nothing was sent yet: a clip needs somebody who watches")
        codec, _ = parts(frames[0].rendition)
        data = await asyncio.to_thread(whole_file, codec, frames)
        suffix, kind = TYPES[codec]
        named = {"Content-Disposition": f'attachment; filename="psistream-{session.id}.{suffix}"'}
        return Response(data, media_type=kind, headers=named)

    @router.get("/hls/index.m3u8")
    async def playlist(request: Request, session_id: str) -> Response:
        """The playlist of live HLS, about six seconds behind."""
        session = watched(request, session_id)
        token = request.query_params.get("token")
        text = await live(session).playlist(f"?token={quote(token, safe='')}" if token else "")
        if text is None:
            raise Unavailable("no picture yet: try again in a moment")
        return Response(text, media_type=PLAYLIST, headers={"Cache-Control": "no-store"})

    @router.get("/hls/{name}")
    async def part(request: Request, session_id: str, name: str) -> Response:
        """A segment that the playlist names."""
        hls = services.hls.get(watched(request, session_id).id)
        number = name.removesuffix(".m4s")
        if hls is not None and name == "init.mp4":
            data = hls.initial
        else:
            data = hls.segment(int(number)) if hls is not None and number.isdecimal() else None
        if data is None:
            raise UnknownSession("this part of the stream is gone: load the playlist again")
        return Response(data, media_type="video/mp4")

    return router


def seconds_of(text: str | None) -> float:
    """Raises InvalidInput."""
    try:
        seconds = float(text) if text is not None else CLIP_S
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= KEPT_S:
        raise InvalidInput(f"seconds must be a number from 1 to {KEPT_S:g}", field="seconds")
    return seconds
