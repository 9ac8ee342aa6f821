"""What goes in and comes out of each HTTP operation: bodies, parameters of the query, answers."""

from __future__ import annotations

from typing import Any

from server.codecs import CODECS
from server.contracts.schemas import NULLABLE_TEXT, TEXT, ref

JSON, PROBLEM, BYTES, SDP = (
    "application/json",
    "application/problem+json",
    "application/octet-stream",
    "application/sdp",
)
FRAGMENT = "application/trickle-ice-sdpfrag"
S = "/v1/sessions"
ONE = f"{S}/{{session_id}}"
WHEP, VIEWER = f"{ONE}/whep", f"{ONE}/whep/{{viewer_id}}"

Operation = tuple[str, str]  # method, path
WHOLE: dict[str, Any] = {"type": "integer", "minimum": 0}
FILE = {"schema": {"type": "string", "format": "binary"}}


def json_of(name: str) -> dict[str, Any]:
    return {JSON: {"schema": ref(name)}}


def thing(**fields: dict[str, Any]) -> dict[str, Any]:
    """An object that has all of these."""
    return {"type": "object", "required": list(fields), "properties": fields}


MODEL = thing(
    name=TEXT,
    backend=TEXT,
    width=WHOLE,
    height=WHOLE,
    fps=WHOLE,
    frames_per_segment=WHOLE,
    actions={"type": "array", "items": TEXT},
    segment_ms={"type": "number"},
)
PUSH = thing(id=TEXT, session=TEXT, whip=TEXT, state=TEXT, error=NULLABLE_TEXT)
LINK = thing(id=TEXT, role={"enum": ["viewer", "driver"]}, expires_in_s=WHOLE)
CAPACITY = thing(sessions=WHOLE, open=WHOLE, load={"type": "number"}, taken=WHOLE)
WORKER = thing(
    id=TEXT,
    state={"enum": ["running", "draining", "drained", "unwell", "starting", "given_up", "left"]},
    fault=NULLABLE_TEXT,
    sessions=WHOLE,
    places=WHOLE,
    capacity={"anyOf": [CAPACITY, {"type": "null"}]},
)
READY = thing(ready={"type": "boolean"}, reasons={"type": "array", "items": TEXT})
OWN_SCHEMAS: dict[str, Any] = {
    "SessionView": {
        "description": "a session as whoever may watch it sees it",
        "allOf": [
            ref("Session"),
            thing(
                whep=TEXT,
                controls=TEXT,
                mqtt={"type": ["object", "null"]},
                model={"anyOf": [MODEL, {"type": "null"}]},
                stats={"anyOf": [ref("Segment"), {"type": "null"}]},
            ),
        ],
    },
    "OpenedSession": {
        "description": "a new session, with its tokens, which are told once",
        "allOf": [ref("SessionView"), thing(token=NULLABLE_TEXT, view_token=NULLABLE_TEXT, page=TEXT)],
    },
    "ChangedSession": {
        "allOf": [ref("SessionView"), thing(receipts={"type": "array", "items": ref("Receipt")})]
    },
    "SessionList": {
        "description": "the sessions of a server, in a cluster those of all its gateways",
        **thing(
            sessions={"type": "array", "items": {"allOf": [ref("Session"), thing(gateway=NULLABLE_TEXT)]}},
            gateway={**NULLABLE_TEXT, "description": "the one that was asked; null if it is no cluster"},
            unanswered={
                "type": "object",
                "additionalProperties": TEXT,
                "description": "gateways whose sessions are missing, and why",
            },
            omitted={**WHOLE, "description": "sessions beyond the limit"},
        ),
    },
    "Link": LINK,
    "NewPush": {
        "type": "object",
        "required": ["whip"],
        "properties": {"whip": TEXT, "token": NULLABLE_TEXT},
    },
    "Push": PUSH,
    "Worker": WORKER,
    "Readiness": READY,
}
BODIES: dict[Operation, dict[str, Any]] = {
    ("post", S): {**json_of("NewSession"), BYTES: FILE},
    ("patch", ONE): {JSON: {"schema": {"type": "object", "minProperties": 1}}},
    ("post", f"{ONE}/controls"): json_of("Control"),
    ("post", f"{ONE}/fork"): json_of("Fork"),
    ("post", f"{ONE}/links"): json_of("NewLink"),
    ("post", f"{ONE}/push"): json_of("NewPush"),
    ("post", WHEP): {SDP: {"schema": TEXT}},
    ("patch", VIEWER): {FRAGMENT: {"schema": TEXT}},
}
TOKEN = {"token": (TEXT, "a token, for players that cannot send headers")}
QUERIES: dict[Operation, dict[str, tuple[dict[str, Any], str]]] = {
    ("post", S): {
        "prompt": (TEXT, "with a snapshot as the body: another prompt"),
        "seed": (WHOLE, "with a snapshot as the body: another seed"),
    },
    ("get", S): {
        "gateway": (TEXT, "only the sessions of this gateway of the cluster"),
        "limit": ({"type": "integer", "minimum": 1, "maximum": 1000}, "default: 1000"),
    },
    ("post", WHEP): {
        "codec": ({"enum": list(CODECS)}, "default: the first of the offer that fits"),
        "start_kbps": (WHOLE, "kbps of the last link message that this viewer got: where its rung starts"),
    },
    ("get", f"{ONE}/clip"): {
        "seconds": ({"type": "number", "minimum": 1, "maximum": 60}, "how much of the last minute"),
        **TOKEN,
    },
    ("get", f"{ONE}/hls/index.m3u8"): TOKEN,
    ("get", f"{ONE}/hls/{{name}}"): TOKEN,
}
NOTHING: dict[str, Any] = {}
RESULTS: dict[Operation, tuple[int, dict[str, Any]]] = {
    ("post", S): (201, json_of("OpenedSession")),
    ("get", S): (200, json_of("SessionList")),
    ("get", ONE): (200, json_of("SessionView")),
    ("patch", ONE): (202, json_of("ChangedSession")),
    ("delete", ONE): (204, NOTHING),
    ("post", f"{ONE}/controls"): (202, json_of("Receipt")),
    ("post", f"{ONE}/fork"): (201, json_of("OpenedSession")),
    ("post", f"{ONE}/links"): (
        201,
        {JSON: {"schema": {"allOf": [ref("Link"), thing(token=TEXT, page=TEXT)]}}},
    ),
    ("get", f"{ONE}/links"): (200, {JSON: {"schema": thing(links={"type": "array", "items": ref("Link")})}}),
    ("delete", f"{ONE}/links/{{link_id}}"): (204, NOTHING),
    ("post", f"{ONE}/push"): (201, json_of("Push")),
    ("get", f"{ONE}/push"): (200, {JSON: {"schema": thing(pushes={"type": "array", "items": ref("Push")})}}),
    ("delete", f"{ONE}/push/{{push_id}}"): (204, NOTHING),
    ("get", f"{ONE}/snapshot"): (200, {BYTES: FILE}),
    ("get", f"{ONE}/log"): (200, {"application/jsonl": {"schema": TEXT}}),
    ("get", f"{ONE}/clip"): (200, {"video/mp4": FILE, "video/webm": FILE}),
    ("get", f"{ONE}/hls/index.m3u8"): (200, {"application/vnd.apple.mpegurl": {"schema": TEXT}}),
    ("get", f"{ONE}/hls/{{name}}"): (200, {"video/mp4": FILE}),
    ("post", WHEP): (201, {SDP: {"schema": TEXT}}),
    ("get", WHEP): (204, NOTHING),
    ("get", VIEWER): (204, NOTHING),
    ("patch", VIEWER): (204, NOTHING),
    ("delete", VIEWER): (200, NOTHING),
    ("get", "/v1/workers"): (
        200,
        {JSON: {"schema": thing(workers={"type": "array", "items": ref("Worker")})}},
    ),
    ("post", "/v1/workers/{worker_id}/drain"): (202, json_of("Worker")),
    ("delete", "/v1/workers/{worker_id}/drain"): (200, json_of("Worker")),
    ("get", "/livez"): (200, {JSON: {"schema": thing(alive={"type": "boolean"})}}),
    ("get", "/readyz"): (200, json_of("Readiness")),
    ("get", "/healthz"): (200, json_of("Readiness")),
    ("get", "/metrics"): (200, {"text/plain": {"schema": TEXT}}),
}
ALSO_503 = {"/livez": thing(alive={"type": "boolean"}), "/readyz": READY, "/healthz": READY}
