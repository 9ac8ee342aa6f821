"""docs/protocol.md agrees with the code: its examples are parsed by the schema, and its tables are
compared."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.datastructures import QueryParams

import server.http.problems
from engine import images
from engine.backends.fake import FAKE_SPEC
from engine.errors import InvalidInput, PsistreamError
from engine.runtime.log.header import HEADER
from engine.runtime.log.reader import read_log
from engine.types import ByteArray, Receipt, SessionClosed, Stall
from engine.wire.controls import CONTROL_MODELS
from engine.wire.fields import BACK_RULE
from engine.wire.parse import (
    MAX_HTTP_MESSAGE_BYTES,
    parse_control,
    parse_fork,
    parse_new_link,
    parse_new_session,
    parse_ping,
)
from engine.wire.requests import EXPIRY_RULE, ROLE_RULE
from server.control.base import SessionEvent
from server.control.mqtt import message as command
from server.control.mqtt import topics
from server.control.mqtt.publisher import status_message
from server.control.protocol import error_json, event_json, receipt_json
from server.gateway.session import REMEMBERED_ANSWERS
from server.http import services
from server.http.routes.sessions import from_query
from server.webrtc.viewer import LINK_FIELDS
from tests.rigs.control.gateway import segment_stats, session_info
from tests.rigs.paths import ROOT

TOPICS = topics.Topics()
DOC = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```json (\w+)\n(.*?)\n```$", DOC, re.M | re.S)
SHELL = [
    shlex.split(line)
    for block in re.findall(r"^```sh\n(.*?)\n```$", DOC, re.M | re.S)
    for line in block.splitlines()
]


def grey(data: bytes) -> ByteArray:
    return np.zeros((3, 2, 2), np.uint8)


def examples(kind: str) -> list[dict[str, Any]]:
    found = [json.loads(text) for name, text in EXAMPLES if name == kind]
    assert found
    return found


def rows(heading: str) -> list[list[str]]:
    """The cells of the tables under a heading, without the header rows."""
    section = DOC.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = re.findall(r"^\|.*\|$(?!\n\|---)", section, re.M)
    return [
        re.split(r"\s*\|\s*", line.strip()[1:-1].strip(" ")) for line in lines if not line.startswith("|---")
    ]


def test_the_controls_are_valid_and_all_types_are_shown() -> None:
    shown = examples("control")
    for message in shown:
        parse_control(message, decode_image=grey)
    assert {message["type"] for message in shown} == set(CONTROL_MODELS)
    for message in examples("ping"):
        parse_ping(message)


def test_the_table_of_controls_is_that_of_the_schema() -> None:
    table, name = {}, ""
    for cells in rows("Controls"):
        name = cells[0].strip("`") or name
        if cells[1]:
            table[(name, cells[1].strip("`"))] = cells[2]
    expected = {
        (type_, field): info.description
        for type_, model in CONTROL_MODELS.items()
        for field, info in model.model_fields.items()
        if field not in ("id", "type")
    }
    assert table.pop(("all", "id")) == CONTROL_MODELS["pause"].model_fields["id"].description
    assert table == expected


def test_the_control_log_is_one() -> None:
    header, *lines = examples("log")
    spec = replace(FAKE_SPEC, name=header["model"])
    data = "\n".join(json.dumps(row) for row in (header, *lines)).encode()
    log = read_log(data, spec, header["weights"])
    assert [line.segment for line in log.lines] == [13, 21, 30]
    assert [line.screen for line in log.lines] == [None, 18, 28]
    shown = {name for cells in rows("Control logs") for name in re.findall(r"`(\w+)`", cells[1])}
    assert set(header) | {name for fields in HEADER for name in fields} <= shown


def test_receipts_and_events_have_exactly_these_fields() -> None:
    shapes = [
        set(receipt_json(Receipt("s", "i", "received"))),
        set(receipt_json(Receipt("s", "i", "applied", 1, 8), pts_90k=0)),
        set(receipt_json(Receipt("s", "i", "rejected", code="invalid", message="m"), field="f")),
        set(receipt_json(Receipt("s", "i", "rejected", code="full", message="m"), retry_after_s=5)),
    ]
    assert [set(message) for message in examples("receipt")] == shapes
    events: list[SessionEvent] = [session_info(), segment_stats(), SessionClosed("s", "closed", "m")]
    assert [set(message) for message in examples("event")] == [set(event_json(event)) for event in events]
    buffering = session_info(buffering=Stall(0.04, 0.375, 8.3))
    assert examples("event")[0]["buffering"] == event_json(buffering)["buffering"]
    expected = {
        "pong": {"type", "id"},
        "clock": {"type", "rtp_offset", "clock_rate"},
        "error": set(error_json("c", "t")),
        "link": {"type", *LINK_FIELDS},
        "status": set(json.loads(status_message("n", "online"))),
    }
    for message in examples("outgoing"):
        assert set(message) - {"id"} == expected[message["type"]] - {"id"}


def test_the_refusal_is_what_the_schema_says() -> None:
    (shown,) = (m for m in examples("receipt") if m["code"] == "invalid")
    with pytest.raises(InvalidInput) as caught:
        parse_control({"id": shown["id"], "type": "prompt", "text": "a fox", "how": "fast"})
    assert (caught.value.code, caught.value.message, caught.value.field) == (
        shown["code"],
        shown["message"],
        shown["field"],
    )


def test_every_code_of_an_error_is_explained() -> None:
    explained = {code for cells in rows("Error codes") for code in re.findall(r"`(\w+)`", cells[0])}
    kinds, codes = [PsistreamError], set()
    while kinds:
        kind = kinds.pop()
        # those between gateways, workers, the directory and a store reach no client
        inner = ("benchmarks", "server.worker.wire", "server.cluster", "server.gateway.storage")
        kinds += [each for each in kind.__subclasses__() if not each.__module__.startswith(inner)]
        codes.add(kind.code)
    sources = Path(topics.__file__).parent.glob("*.py")
    codes |= {
        code
        for path in sources
        for code in re.findall(r'"(rate_limited|expired|retained|ambiguous|internal)"', path.read_text())
    }
    assert codes <= explained, codes - explained


def test_it_says_over_how_many_ids_a_session_knows_repetitions() -> None:
    assert f"the latest {REMEMBERED_ANSWERS} ids" in DOC
    codes = {code for cells in rows("Error codes") for code in re.findall(r"`(\w+)`", cells[0])}
    assert set(server.http.problems.RECEIPT_STATUS) <= codes


def test_the_shell_examples_are_valid() -> None:
    used = set()
    for words in SHELL:
        options = dict(pairwise(words))
        used.add(words[0])
        if words[0] in ("mosquitto_pub", "mosquitto_rr"):
            topic = TOPICS.parse_command(options["-t"])
            assert topic is not None
            payload = b"" if "-n" in words else options["-m"].encode()
            result = command.read_command(TOPICS, topic.name, topic.verb, payload)
            assert result.error is None
        elif "-d" in options and words[2].endswith("/controls"):
            parse_control(options["-d"], max_bytes=MAX_HTTP_MESSAGE_BYTES)
        elif "-d" in options and words[2].endswith("/fork"):
            parse_fork(options["-d"])
        elif "-d" in options and words[2].endswith("/links"):
            parse_new_link(options["-d"])
        elif "-d" in options:
            parse_new_session(options["-d"])
        elif "--data-binary" in options and "?" in words[2]:
            parse_new_session(from_query(QueryParams(words[2].partition("?")[2])))
    assert used == {"curl", "mosquitto_pub", "mosquitto_rr", "mosquitto_sub"}
    assert f"`rewind_s` seconds of video ago, {BACK_RULE}" in DOC
    assert EXPIRY_RULE in DOC
    assert ROLE_RULE.split(" or ")[0] in DOC


def test_the_rates_and_limits_are_those_of_the_code() -> None:
    for told, shares in (
        ("opening a session, forks included", services.OPENINGS),
        ("joining as a viewer", services.JOININGS),
        ("snapshots and logs", services.EXPORTS),
    ):
        cells = " | ".join(f"{rate} ({burst})" for rate, burst in shares)
        assert f"| {told} | {cells} |" in DOC
    limits = images.CLIENT_LIMITS
    assert f"{limits.side} pixels a side and {limits.pixels / 1e6:g} megapixels" in DOC
    assert f"at most {limits.aspect:g} times the other" in DOC


def test_the_mqtt_tables_and_examples_are_those_of_the_code() -> None:
    for message in examples("command"):
        assert command.read_command(TOPICS, "main", "prompt", json.dumps(message).encode()).error is None
    cells = rows("MQTT")
    shown = {row[0].strip("`") for row in cells}
    tree = {
        TOPICS.command("{id}", "{verb}"),
        TOPICS.ack("{id}", "{client}"),
        TOPICS.state("{id}"),
        TOPICS.event("{id}"),
        TOPICS.error("{id}"),
        TOPICS.status("{node}"),
        TOPICS.sessions("{node}"),
    }
    assert tree <= shown
    table = {row[0].strip("`"): row[1] for row in cells}
    for name, info in command.MqttEnvelope.model_fields.items():
        assert table[name] == info.description
    verbs = next(row[4] for row in cells if row[0] == f"`{TOPICS.command('{id}', '{verb}')}`")
    assert verbs.endswith(": " + ", ".join(command.VERBS))


def test_the_table_of_brokers_names_tests_that_exist() -> None:
    table = DOC.split("### What works with which broker", 1)[1]
    named = set(re.findall(r"`(test_\w+)` \|$", table, re.M))
    sources = [path.read_text() for path in (Path(__file__).parent / "mqtt").glob("test_*.py")]
    assert len(named) > 10
    assert not [name for name in named if not any(f"def {name}(" in source for source in sources)]


@pytest.mark.parametrize("target", re.findall(r"\]\((\.\./[^)#]+)", DOC))
def test_links_lead_somewhere(target: str) -> None:
    assert (ROOT / "docs" / target).exists()
