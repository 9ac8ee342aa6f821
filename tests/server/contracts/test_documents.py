"""OpenAPI and AsyncAPI: the files match the code, are valid and complete, and their statements are true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator  # type: ignore[import-untyped]
from openapi_spec_validator import validate

from engine.types import Receipt, SessionClosed
from engine.wire.strict_json import dump
from server.control.mqtt.publisher import status_message
from server.control.mqtt.topics import Topics
from server.control.protocol import event_json, receipt_json
from server.http.documents import documents
from tests.rigs.control.gateway import segment_stats, session_info
from tests.rigs.paths import ROOT
from tests.rigs.server.server_rig import live

DOCS = ROOT / "docs"


def kept(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((DOCS / name).read_text(encoding="utf-8"))
    return document


@pytest.mark.parametrize("name", ["openapi.json", "asyncapi.json"])
def test_the_files_are_those_of_the_code(name: str) -> None:
    """`python -m server.http.documents docs` writes them again."""
    assert (DOCS / name).read_text(encoding="utf-8") == documents()[name]


def test_openapi_is_valid() -> None:
    validate(kept("openapi.json"))


def test_asyncapi_is_valid() -> None:
    """Validated with the standard's own schema (npm @asyncapi/specs, Apache-2.0, without its descriptions).
    The full linters, spectral and @asyncapi/parser, are run by hand, since npm needs hundreds of packages for
    them."""
    schema = json.loads((Path(__file__).parent / "asyncapi-3.0.0.schema.json").read_text("utf-8"))
    errors = [error.message for error in Draft7Validator(schema).iter_errors(kept("asyncapi.json"))]
    assert not errors, errors


def references(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for each in value.values() for found in references(each)]
    return [found for each in value for found in references(each)] if isinstance(value, list) else []


@pytest.mark.parametrize("name", ["openapi.json", "asyncapi.json"])
def test_every_reference_leads_somewhere(name: str) -> None:
    document = kept(name)
    found = references(document)
    assert len(found) > 20
    for reference in found:
        at: Any = document
        for part in reference.removeprefix("#/").split("/"):
            at = at[part.replace("~1", "/")]
        assert at


def test_asyncapi_has_all_topics_and_what_asyncapi_3_wants() -> None:
    document, topics = kept("asyncapi.json"), Topics()
    addresses = {channel["address"] for channel in document["channels"].values()}
    assert addresses == {
        topics.command("{name}", "{verb}"),
        topics.ack("{name}", "{client}"),
        topics.state("{name}"),
        topics.event("{name}"),
        topics.error("{name}"),
        topics.picture("{name}"),
        topics.status("{node}"),
        topics.sessions("{node}"),
        "control",
    }
    assert document["asyncapi"] == "3.0.0"
    for channel in document["channels"].values():
        named = {name for name in ("name", "verb", "client", "node") if f"{{{name}}}" in channel["address"]}
        assert set(channel.get("parameters", ())) == named
    for operation in document["operations"].values():
        assert operation["action"] in ("send", "receive")
        assert operation["channel"]["$ref"].removeprefix("#/channels/") in document["channels"]


def check(document: str, schema: str, message: dict[str, Any]) -> None:
    whole = {"$ref": f"#/components/schemas/{schema}", "components": kept(document)["components"]}
    sent = json.loads(dump(message))
    errors = [error.message for error in Draft202012Validator(whole).iter_errors(sent)]
    assert not errors, errors


def test_what_the_server_tells_is_as_the_documents_say() -> None:
    for document in ("openapi.json", "asyncapi.json"):
        check(document, "Receipt", receipt_json(Receipt("main", "a", "applied", 1, 8)))
        check(document, "Session", event_json(session_info()))
        check(document, "Segment", event_json(segment_stats()))
    for document in ("asyncapi.json",):
        check(document, "Closed", event_json(SessionClosed("main", "closed", "the session was closed")))
        check(document, "Control", {"id": "a", "type": "prompt", "text": "a fox", "how": "cut"})
    check("asyncapi.json", "Status", json.loads(status_message("n", "online", 1, "i")))


async def test_the_server_serves_the_contract_and_a_page_of_it() -> None:
    async with live() as server:
        served = (await server.http.get("/openapi.json")).json()
        assert {**served, "info": {**served["info"], "version": "1"}} == kept("openapi.json")
        prefixed = await server.http.get("/openapi.json", headers={"X-Forwarded-Prefix": "/video"})
        assert prefixed.json()["servers"] == [{"url": "/video/"}]
        page = await server.http.get("/docs")
        assert page.headers["content-type"].startswith("text/html")
        assert "<script" not in page.text
        assert "/v1/sessions/{session_id}/controls" in page.text
        refused = await server.http.get("/v1/sessions/nobody")
        check("openapi.json", "Problem", refused.json())
        check("openapi.json", "Session", (await server.http.get("/v1/sessions/main")).json())
