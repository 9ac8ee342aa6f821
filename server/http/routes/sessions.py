"""HTTP routes of sessions: open, read, change, steer, close. Requests become calls of the gateway."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.datastructures import QueryParams
from starlette.responses import JSONResponse, Response

from engine.errors import InvalidInput
from engine.types import ByteArray, Control, Receipt
from engine.wire.parse import (
    MAX_HTTP_MESSAGE_BYTES,
    MAX_OPENING_BYTES,
    make_id,
    parse_control,
    parse_new_session,
)
from engine.wire.requests import NewSession
from engine.wire.strict_json import finite, load_object
from server.control.protocol import receipt_json
from server.gateway.session import GatewaySession
from server.http.edge.prefix import public_path
from server.http.problems import WrongType, status_of_code
from server.http.services import Services, read_body, streamed
from server.http.snapshot_header import has_header, is_file

FILE = "application/octet-stream"
MAX_SMALL_BYTES = 16 * 1024  # maximum size of a message that is parsed on the event loop
OF_PROMPT = ("how", "when", "transition_segments")
PATCHABLE = ("prompt", *OF_PROMPT, "action", "paused", "seed")


def session_routes(services: Services) -> APIRouter:
    router = APIRouter(prefix="/v1/sessions")

    @router.post("")
    async def open_session(request: Request) -> Response:
        """Open a session of your own."""
        services.access.admit(request.headers.get("authorization"))
        services.enter(services.openings, request)
        start = await read_opening(services, request)
        wanted, client = start.wanted, services.client(request)
        session = await services.gateway.open(
            wanted.prompt, wanted.seed, start.image, video=start.video, snapshot=start.snapshot, client=client
        )
        return await opened(services, request, session)

    @router.get("/{session_id}")
    async def look(request: Request, session_id: str) -> Response:
        """A session as it is now."""
        return JSONResponse(described(services, request, services.watched(request, session_id)))

    @router.patch("/{session_id}")
    async def change(request: Request, session_id: str) -> Response:
        """Several changes at once, as a desired state; each becomes a control with a receipt."""
        session = services.driven(request, session_id)
        services.enter(services.controls, request, session)
        controls = patched(load_object(await read_json(request), 64 * 1024))
        for control in controls:  # either all of them are valid, or none takes effect
            services.gateway.check(session.id, control)
        receipts = [services.gateway.submit(session.id, control) for control in controls]
        answer = {**described(services, request, session), "receipts": [receipt_json(r) for r in receipts]}
        return JSONResponse(answer, status_for(receipts, good=202))

    @router.delete("/{session_id}")
    async def close(request: Request, session_id: str) -> Response:
        """End a session."""
        await services.gateway.close_session(services.owned(request, session_id).id)
        return Response(status_code=204)

    @router.post("/{session_id}/controls")
    async def steer(request: Request, session_id: str) -> Response:
        """Send one control. Its `applied` comes on the data channel and by MQTT."""
        session = services.driven(request, session_id)
        services.enter(services.controls, request, session)
        body = await read_json(request, MAX_HTTP_MESSAGE_BYTES)
        parse = partial(parse_control, body, max_bytes=MAX_HTTP_MESSAGE_BYTES)
        try:
            if len(body) > MAX_SMALL_BYTES:
                raise HasPicture
            control = parse(decode_image=only_without_picture)
        except HasPicture:
            async with services.parsing:
                control = await asyncio.to_thread(parse, decode_image=services.decoder(session.id))
        receipt = services.gateway.submit(session.id, control)
        return JSONResponse(receipt_json(receipt), status_for([receipt], good=202))

    return router


class HasPicture(Exception):
    """This message contains a picture and takes long to parse, so a thread does it."""


def only_without_picture(data: bytes) -> ByteArray:
    raise HasPicture


class OpeningRequest(NamedTuple):
    """How a new session should start."""

    wanted: NewSession
    image: ByteArray | None
    video: ByteArray | None
    snapshot: bytes | None


async def read_opening(services: Services, request: Request) -> OpeningRequest:
    """Parse JSON; or a snapshot file as the body, with prompt and seed in the query. Raises
    InvalidInput."""
    most = services.max_snapshot_bytes
    if kind_of(request) == FILE:
        wanted, _ = parse_new_session(from_query(request.query_params))
        data = await read_snapshot(request, most, services.check_snapshot)
        return OpeningRequest(wanted, None, None, data)
    body = await read_json(
        request, max(MAX_OPENING_BYTES, 4 * most // 3 + 4096), f", or {FILE} for a snapshot"
    )
    if is_file(body):
        raise WrongType(f"for the file of a snapshot send {FILE}", field="Content-Type")

    client = f"client {services.client(request)}"

    def parse() -> OpeningRequest:
        wanted, image = parse_new_session(body, max_bytes=len(body), decode_image=services.decoder(client))
        snapshot = None if wanted.snapshot is None else base64.b64decode(wanted.snapshot)
        if snapshot is not None:
            services.check_snapshot(snapshot)
        clip = None if wanted.video is None else base64.b64decode(wanted.video)
        video = None if clip is None else services.clip_decoder(client)(clip)
        return OpeningRequest(wanted, image, video, snapshot)

    async with services.parsing:
        return await asyncio.to_thread(parse)


async def read_snapshot(request: Request, limit: int, check: Callable[[bytes], None]) -> bytes:
    """The header is checked as soon as it has arrived, since "of another model" is more helpful than "too
    large for this one". Raises InvalidInput, TooLarge, TooSlow."""
    checked = False

    def look(data: bytearray) -> None:
        nonlocal checked
        if not checked and has_header(data):
            check(bytes(data))
            checked = True

    data = await streamed(request, limit, "file", look)
    if not checked:
        check(data)
    return data


def from_query(query: QueryParams) -> dict[str, Any]:
    """The JSON fields other than `snapshot`, which is the body. Raises InvalidInput."""
    for name in query:
        if len(query.getlist(name)) > 1:
            raise InvalidInput(f"{name[:40]} is given more than once: give it once", field=name[:40])
    for name in ("image", "video", "snapshot"):
        if name in query:
            raise InvalidInput(
                "the body is the snapshot: only prompt and seed may be given in the query", field=name
            )
    wanted: dict[str, Any] = {**query, "snapshot": ""}
    seed = query.get("seed", "")
    if seed.isascii() and seed.isdigit() and len(seed) <= 10:
        wanted["seed"] = int(seed)
    return wanted


async def opened(services: Services, request: Request, session: GatewaySession) -> Response:
    """The response to the client that opened the session. If that client has already disconnected, nobody
    could use the session, so it is closed."""
    answer = {**described(services, request, session), **secrets_of(request, session)}
    if await request.is_disconnected():
        await services.gateway.close_session(session.id)
    elif services.mqtt is not None:
        await services.mqtt.subscribed()
    return JSONResponse(answer, 201, {"Location": public_path(request, f"/v1/sessions/{session.id}")})


def kind_of(request: Request) -> str:
    return request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()


async def read_json(request: Request, limit: int = 64 * 1024, other: str = "") -> bytes:
    """The body of a request whose content type is JSON or missing. Raises WrongType, TooLarge."""
    kind = kind_of(request)
    if kind not in ("application/json", ""):
        raise WrongType(f"send application/json{other}, not {kind[:60]}", field="Content-Type")
    return await read_body(request, limit)


def described(services: Services, request: Request, session: GatewaySession) -> dict[str, Any]:
    """The session as shown to everybody who may watch it."""
    ready, mqtt = services.gateway.ready, services.mqtt
    answer: dict[str, Any] = finite(asdict(services.gateway.info(session.id)))
    answer["whep"] = public_path(request, f"/v1/sessions/{session.id}/whep")
    answer["controls"] = public_path(request, f"/v1/sessions/{session.id}/controls")
    answer["mqtt"] = mqtt.addresses(session.id) if mqtt else None
    answer["model"] = (
        {
            "name": ready.model,
            "backend": ready.backend,
            "width": ready.width,
            "height": ready.height,
            "fps": ready.fps,
            "frames_per_segment": ready.frames_per_segment,
            "actions": list(ready.actions),
            "segment_ms": round(ready.segment_ms, 3),
        }
        if ready
        else None
    )
    answer["stats"] = finite(asdict(session.stats)) if session.stats else None
    return answer


def secrets_of(request: Request, session: GatewaySession) -> dict[str, Any]:
    """The session's tokens, returned once to the client that opened it."""
    token, view_token = session.tell_tokens()
    page = page_link(request, session.id, token)
    return {"token": token, "view_token": view_token, "page": page}


def page_link(request: Request, session_id: str, token: str | None, *, watch: bool = False) -> str:
    """The page of a session. A token stands after #, so that browsers do not send it."""
    page = f"{str(request.base_url).rstrip('/')}{public_path(request, '/')}?session={quote(session_id)}"
    return page + ("&watch" if watch else "") + (f"#token={quote(token)}" if token else "")


def patched(wanted: dict[str, Any]) -> list[Control]:
    """The controls that change a session to this state. Raises InvalidInput."""
    unknown = [name for name in wanted if name not in PATCHABLE]
    if unknown or not wanted:
        raise InvalidInput(
            f"PATCH takes {', '.join(PATCHABLE)}", field=str(unknown[0])[:40] if unknown else "body"
        )
    messages: list[dict[str, Any]] = []
    if "paused" in wanted and not isinstance(wanted["paused"], bool):
        raise InvalidInput("paused must be true or false", field="paused")
    how = {name: wanted[name] for name in OF_PROMPT if name in wanted}
    if how and "prompt" not in wanted:
        field = next(iter(how))
        raise InvalidInput(f"{field} says how a prompt takes effect: send prompt as well", field=field)
    if "prompt" in wanted:
        messages.append({"type": "prompt", "text": wanted["prompt"], **how})
    if "seed" in wanted:
        messages.append({"type": "reset", "seed": wanted["seed"]})
    if "action" in wanted:
        messages.append({"type": "action", "action": wanted["action"]})
    if "paused" in wanted:
        messages.append({"type": "pause" if wanted["paused"] else "resume"})
    try:
        return [parse_control({"id": make_id(), **message}) for message in messages]
    except InvalidInput as error:
        raise InvalidInput(error.message, field="prompt" if error.field == "text" else error.field) from None


def status_for(receipts: list[Receipt], *, good: int) -> int:
    """The status of a response that consists of receipts: that of the first rejection, otherwise `good`."""
    refused = next((r for r in receipts if r.status == "rejected"), None)
    return good if refused is None else status_of_code(refused.code)
