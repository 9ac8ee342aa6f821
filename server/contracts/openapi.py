"""The HTTP API as OpenAPI 3.1: paths and words from the routes, bodies from engine/wire.

It is served at /openapi.json and kept in docs/openapi.json; a test fails when the two differ.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute

from server.contracts.schemas import TEXT, ref, schemas
from server.version import VERSION

JSON, PROBLEM, BYTES, SDP = (
    "application/json",
    "application/problem+json",
    "application/octet-stream",
    "application/sdp",
)
FRAGMENT = "application/trickle-ice-sdpfrag"
S = "/v1/sessions"
ONE = f"{S}/{{session_id}}"

Operation = tuple[str, str]  # method, path


def _json(name: str) -> dict[str, Any]:
    return {JSON: {"schema": ref(name)}}


FILE = {"schema": {"type": "string", "format": "binary"}}
BODIES: dict[Operation, dict[str, Any]] = {
    ("post", S): {**_json("NewSession"), BYTES: FILE},
    ("patch", ONE): {JSON: {"schema": {"type": "object", "minProperties": 1}}},
    ("post", f"{ONE}/controls"): _json("Control"),
    ("post", f"{ONE}/fork"): _json("Fork"),
    ("post", f"{ONE}/whep"): {SDP: {"schema": TEXT}},
    ("patch", f"{ONE}/whep/{{viewer_id}}"): {FRAGMENT: {"schema": TEXT}},
}
RESULTS: dict[Operation, tuple[int, dict[str, Any]]] = {
    ("post", S): (201, _json("Session")),
    ("get", ONE): (200, _json("Session")),
    ("patch", ONE): (202, _json("Session")),
    ("delete", ONE): (204, {}),
    ("post", f"{ONE}/controls"): (202, _json("Receipt")),
    ("post", f"{ONE}/fork"): (201, _json("Session")),
    ("get", f"{ONE}/snapshot"): (200, {BYTES: FILE}),
    ("get", f"{ONE}/log"): (200, {"application/jsonl": {"schema": TEXT}}),
    ("post", f"{ONE}/whep"): (201, {SDP: {"schema": TEXT}}),
    ("get", "/metrics"): (200, {"text/plain": {"schema": TEXT}}),
}
OPEN = ("/livez", "/readyz", "/healthz", "/metrics")  # nobody needs a token


def openapi(routers: Iterable[APIRouter]) -> dict[str, Any]:
    """The document. HEAD and OPTIONS are left out: every GET has its HEAD."""
    paths: dict[str, dict[str, Any]] = {}
    for route in (route for router in routers for route in router.routes if isinstance(route, APIRoute)):
        if route.path.endswith("/"):
            continue  # another way to write the same address
        for method in sorted((route.methods or set()) - {"HEAD", "OPTIONS"}):
            paths.setdefault(route.path, {})[method.lower()] = _operation(method.lower(), route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "psistream",
            "version": VERSION,
            "description": "Endless video that you steer while you watch it. docs/protocol.md explains it.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted(schemas().items())),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(method: str, route: APIRoute) -> dict[str, Any]:
    key = method, route.path
    about = inspect.cleandoc(inspect.getdoc(route.endpoint) or "")
    status, content = RESULTS.get(key, (204, {}) if method == "delete" else (200, {JSON: {"schema": {}}}))
    success: dict[str, Any] = {"description": "done"}
    if content:
        success["content"] = content
    failure = {"description": "what is wrong, by `code`", "content": {PROBLEM: {"schema": ref("Problem")}}}
    operation: dict[str, Any] = {
        "operationId": f"{method}_{re.sub('[^a-z0-9]+', '_', route.path.lower()).strip('_')}",
        "summary": (
            about.split(". ")[0].split("\n")[0].rstrip(".") or route.endpoint.__name__.replace("_", " ")
        ),
        "description": about,
        "responses": {str(status): success, "default": failure},
        "security": [] if route.path in OPEN else [{"bearer": []}, {}],
    }
    names = re.findall(r"\{(\w+)\}", route.path)
    if names:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": TEXT} for name in names
        ]
    if key in BODIES:
        operation["requestBody"] = {"required": True, "content": BODIES[key]}
    return operation
