"""JSON schemas of the wire messages, generated from the models that parse them and the types that are
written."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from engine.types import Receipt, SessionClosed, SessionInfo
from engine.wire.controls import CONTROL_MODELS
from engine.wire.requests import Fork, NewLink, NewSession, PingMessage
from server.worker.messages.events import SegmentStats

REF = "#/components/schemas/"
TEXT: dict[str, Any] = {"type": "string"}
NULLABLE_TEXT: dict[str, Any] = {"type": ["string", "null"]}


def ref(name: str) -> dict[str, Any]:
    return {"$ref": REF + name}


@cache
def schemas() -> Mapping[str, Any]:
    """By name: controls, requests, receipts, events and problems. Made once, so nobody changes it."""
    return {
        **_models([*CONTROL_MODELS.values(), NewSession, Fork, NewLink, PingMessage]),
        "Control": {
            "oneOf": [ref(model.__name__) for model in CONTROL_MODELS.values()],
            "discriminator": {
                "propertyName": "type",
                "mapping": {name: REF + model.__name__ for name, model in CONTROL_MODELS.items()},
            },
        },
        **_types(
            {"Receipt": Receipt, "Session": SessionInfo, "Segment": SegmentStats, "Closed": SessionClosed}
        ),
        "Problem": {
            "title": "Problem",
            "description": "RFC 9457, with a stable `code` and the `field` at fault",
            "type": "object",
            "required": ["status", "code", "message"],
            "properties": {
                "type": TEXT,
                "title": TEXT,
                "status": {"type": "integer"},
                "code": TEXT,
                "message": TEXT,
                "detail": TEXT,
                "field": NULLABLE_TEXT,
            },
        },
    }


def _models(models: list[type[BaseModel]]) -> dict[str, Any]:
    pairs = [(model, "validation") for model in models]
    _, made = models_json_schema(pairs, ref_template=REF + "{model}")  # type: ignore[arg-type]
    found: dict[str, Any] = made["$defs"]
    return found


def _types(types: dict[str, type]) -> dict[str, Any]:
    """The dataclasses that the server writes, and the types of their fields."""
    found: dict[str, Any] = {}
    for name, kind in types.items():
        made = TypeAdapter(kind).json_schema(mode="serialization", ref_template=REF + "{model}")
        found.update(made.pop("$defs", {}))
        made.pop("title", None)
        found[name] = {"title": name, **made}
        found[name].pop("additionalProperties", None)  # MQTT and HTTP add fields of their own
    return found
