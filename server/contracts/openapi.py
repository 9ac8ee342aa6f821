"""The HTTP API as OpenAPI 3.1: paths and descriptions from the routes, bodies from engine/wire.

It is served at /openapi.json and stored as docs/openapi.json; a test fails if the two differ.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute

from server.contracts.results import (
    ALSO_503,
    BODIES,
    JSON,
    ONE,
    OWN_SCHEMAS,
    PROBLEM,
    QUERIES,
    RESULTS,
    WHEP,
)
from server.contracts.schemas import TEXT, ref, schemas
from server.version import VERSION

OPEN = ("/livez", "/readyz", "/healthz", "/metrics")  # routes that need no token
ELSEWHERE = ("Closed", "PingMessage")  # of the data channel and MQTT: docs/asyncapi.json has them
TAGS = {
    "sessions": "open, look at, steer and close a session",
    "sharing": "give a session away: links that end, pushes by WHIP",
    "copies": "snapshots, control logs, forks",
    "watching": "WHEP, clips and HLS",
    "operations": "health and metrics",
}
TAG_OF = {
    f"{ONE}/links": "sharing",
    f"{ONE}/push": "sharing",
    f"{ONE}/snapshot": "copies",
    f"{ONE}/log": "copies",
    f"{ONE}/fork": "copies",
    f"{ONE}/clip": "watching",
    f"{ONE}/hls": "watching",
    WHEP: "watching",
    "/v1/sessions": "sessions",
    "/": "operations",
}


def openapi(routers: Iterable[APIRouter]) -> dict[str, Any]:
    """The document. HEAD and OPTIONS are left out: every GET has its HEAD."""
    paths: dict[str, dict[str, Any]] = {}
    for route in (route for router in routers for route in router.routes if isinstance(route, APIRoute)):
        if route.path.endswith("/"):
            continue  # an alias of the same path
        for method in sorted((route.methods or set()) - {"HEAD", "OPTIONS"}):
            paths.setdefault(route.path, {})[method.lower()] = _operation(method.lower(), route)
    kept = {name: schema for name, schema in schemas().items() if name not in ELSEWHERE}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "psistream",
            "version": VERSION,
            "description": "Endless video that you steer while you watch it. docs/protocol.md explains it.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": about} for name, about in TAGS.items()],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted({**kept, **OWN_SCHEMAS}.items())),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "a session's token or view_token, a link's, or an API key of the server",
                }
            },
        },
    }


def _operation(method: str, route: APIRoute) -> dict[str, Any]:
    key = method, route.path
    about = " ".join((inspect.getdoc(route.endpoint) or "").split())
    status, content = RESULTS[key]
    success: dict[str, Any] = {"description": "done"}
    if content:
        success["content"] = content
    failure = {"description": "what is wrong, by `code`", "content": {PROBLEM: {"schema": ref("Problem")}}}
    responses = {str(status): success, "default": failure}
    if route.path in ALSO_503:
        unwell = {"schema": ALSO_503[route.path]}
        responses["503"] = {"description": "it is not, and `reasons` say why", "content": {JSON: unwell}}
    operation: dict[str, Any] = {
        "operationId": f"{method}_{re.sub('[^a-z0-9]+', '_', route.path.lower()).strip('_')}",
        "tags": [next(tag for path, tag in TAG_OF.items() if route.path.startswith(path))],
        "summary": about.split(". ")[0].rstrip("."),
        "description": about,
        "responses": responses,
        "security": [] if route.path in OPEN else [{"bearer": []}, {}],
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": TEXT}
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]
    parameters += [
        {"name": name, "in": "query", "schema": schema, "description": what}
        for name, (schema, what) in QUERIES.get(key, {}).items()
    ]
    if parameters:
        operation["parameters"] = parameters
    if key in BODIES:
        operation["requestBody"] = {"required": True, "content": BODIES[key]}
    return operation
