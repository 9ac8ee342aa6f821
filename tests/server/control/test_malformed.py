"""Malformed messages: each is rejected with its field and the fix."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

import pytest

from engine.errors import InvalidInput
from engine.wire.parse import (
    MAX_MESSAGE_BYTES,
    parse_control,
    salvage_id,
)
from tests.server.control.pictures import grey

PICTURE = base64.b64encode(b"\x89PNG picture").decode()

DEEP = "[" * 8000 + "]" * 8000


@pytest.mark.parametrize(
    ("raw", "field", "hint"),
    [
        (b"", "message", "JSON"),
        (b"nonsense", "message", "JSON"),
        (b"\xff\xfe", "message", "UTF-8"),
        ("\ud800", "message", "UTF-8"),
        (b"[]", "message", "object"),
        (b"null", "message", "object"),
        (b'"pause"', "message", "object"),
        (DEEP, "message", "deep"),
        ('{"type":"pause","id":' + "[" * 20 + "]" * 20 + "}", "message", "deep"),
        (b'{"type": "pause", "type": "resume"}', "type", "twice"),
        (b'{"type": "reset", "seed": NaN}', "message", "NaN"),
        (b'{"type": "reset", "seed": 1e999}', "message", "large"),
        (b'{"type": "reset", "seed": ' + b"9" * 5000 + b"}", "message", "number"),
        (b"{" + b" " * MAX_MESSAGE_BYTES + b"}", "message", "bytes"),
        ({}, "type", "missing"),
        ({"type": "dance"}, "type", '"prompt"'),
        ({"type": None}, "type", '"prompt"'),
        ({"type": ["prompt"]}, "type", '"prompt"'),
        ({"type": "PROMPT", "text": "x"}, "type", '"prompt"'),
        ({"type": "prompt"}, "text", "missing"),
        ({"type": "prompt", "text": None}, "text", "string"),
        ({"type": "prompt", "text": "x", "prompts": [{"text": "y"}]}, "prompts", "one of them"),
        ({"type": "prompt", "prompts": []}, "prompts", "1 to 8"),
        ({"type": "prompt", "prompts": "x"}, "prompts", "list"),
        ({"type": "prompt", "prompts": [{"text": "x"}] * 9}, "prompts", "1 to 8"),
        ({"type": "prompt", "prompts": [{"text": "x" * 1025}] * 2}, "prompts", "2048"),
        ({"type": "prompt", "prompts": ["x"]}, "prompts", "`text` and `weight`"),
        ({"type": "prompt", "prompts": [{"text": "x"}, {"weight": 1}]}, "prompts[1].text", "missing"),
        ({"type": "prompt", "prompts": [{"text": " "}]}, "prompts[0].text", "empty"),
        ({"type": "prompt", "prompts": [{"text": "x", "weight": 0}]}, "prompts[0].weight", "above 0"),
        ({"type": "prompt", "prompts": [{"text": "x", "weight": True}]}, "prompts[0].weight", "number"),
        ({"type": "prompt", "prompts": [{"text": "x", "w": 1}]}, "prompts[0].w", "not a known field"),
        ({"type": "prompt", "text": 5}, "text", "string"),
        ({"type": "prompt", "text": ["x"]}, "text", "string"),
        ({"type": "prompt", "text": " \n\u200b\x00"}, "text", "empty"),
        ({"type": "prompt", "text": "\ud800"}, "text", "text"),
        ({"type": "prompt", "text": "x" * 2049}, "text", "2048"),
        ({"type": "prompt", "text": "é" * 1025}, "text", "2048"),
        ({"type": "prompt", "text": "x", "how": "hard"}, "how", '"cut"'),
        ({"type": "prompt", "text": "x", "how": None}, "how", '"cut"'),
        ({"type": "prompt", "text": "x", "when": "soon"}, "when", '"now"'),
        ({"type": "prompt", "text": "x", "transition_segments": 0}, "transition_segments", "1 to 64"),
        ({"type": "prompt", "text": "x", "transition_segments": 65}, "transition_segments", "1 to 64"),
        ({"type": "prompt", "text": "x", "transition_segments": 2.0}, "transition_segments", "whole number"),
        ({"type": "action", "action": None, "when": "now"}, "when", "not a known field"),
        ({"type": "reset", "when": "later"}, "when", '"now"'),
        ({"type": "rewind"}, "seconds", "missing"),
        ({"type": "rewind", "seconds": 0}, "seconds", "above 0"),
        ({"type": "rewind", "seconds": -1}, "seconds", "above 0"),
        ({"type": "rewind", "seconds": 3601}, "seconds", "3600"),
        ({"type": "rewind", "seconds": "5"}, "seconds", "number"),
        ({"type": "rewind", "seconds": float("inf")}, "seconds", "number"),
        ({"type": "action"}, "action", "missing"),
        ({"type": "action", "action": ""}, "action", "model's actions"),
        ({"type": "action", "action": 1}, "action", "model's actions"),
        ({"type": "pause", "text": "x"}, "text", "not a known field"),
        ({"type": "pause", "prompt": "x"}, "prompt", "not a known field"),
        ({"type": "pause", "id": ""}, "id", "1 to 64"),
        ({"type": "pause", "id": "x" * 65}, "id", "1 to 64"),
        ({"type": "pause", "id": 7}, "id", "string"),
        ({"type": "pause", "id": "a\nb"}, "id", "control characters"),
        ({"type": "reset", "seed": -1}, "seed", "4294967295"),
        ({"type": "reset", "seed": 2**32}, "seed", "4294967295"),
        ({"type": "reset", "seed": 1.0}, "seed", "whole number"),
        ({"type": "reset", "seed": True}, "seed", "whole number"),
        ({"type": "reset", "seed": "1"}, "seed", "whole number"),
        ({"type": "image"}, "data", "missing"),
        ({"type": "image", "data": "not base64!"}, "data", "base64"),
        ({"type": "image", "data": ""}, "data", "bytes"),
        ({"type": "image", "data": "data:image/png;base64," + PICTURE}, "data", "base64"),
        ({"type": "image", "data": "A" * 3_000_000}, "data", "large"),
        ({"type": "pause", 5: "x"}, "message", "strings"),
        ({"type": "pause", "x" * 100_000: 1}, "x" * 40 + "…", "not a known field"),
    ],
)
def test_each_fault_names_its_field_and_the_fix(raw: Any, field: str, hint: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_control(raw, decode_image=grey)
    error = caught.value
    assert error.field == field
    assert hint in error.message
    assert len(error.message) < 250  # no echo of what was sent
    assert "pydantic" not in error.message
    assert "Traceback" not in error.message


def test_a_prompt_of_a_megabyte_is_refused_before_it_is_looked_at() -> None:
    with pytest.raises(InvalidInput, match="1000030 bytes, at most 16384"):
        parse_control('{"type": "prompt", "text": "' + "x" * 1_000_000 + '"}')


def test_text_that_is_slow_to_normalise_is_refused_by_its_length() -> None:
    """Sorting a million combining characters would block the event loop for minutes."""
    text = "a" + "\u0315\u0300" * 500_000
    with pytest.raises(InvalidInput, match="at most 2048"):
        parse_control({"type": "prompt", "text": text})


SEEDS: list[dict[str, Any]] = [
    {"id": "a", "type": "prompt", "text": "a fox", "how": "cut"},
    {"id": "b", "type": "action", "action": "left"},
    {"id": "c", "type": "reset", "seed": 7, "when": "now"},
    {"id": "e", "type": "prompt", "prompts": [{"text": "a fox", "weight": 0.5}], "how": "soft"},
    {"id": "f", "type": "rewind", "seconds": 2.5},
    {"id": "d", "type": "image", "data": PICTURE},
    {"type": "pause"},
]

JUNK: list[Any] = [
    None,
    True,
    -1,
    1.5,
    10**30,
    "",
    "x",
    "\x00",
    "\ud800",
    "x" * 3000,
    [],
    {},
    [[[]]],
    {"a": {"b": None}},
    "prompt",
]


def mutated(chance: random.Random) -> bytes | str | dict[str, Any]:
    message = dict(chance.choice(SEEDS))
    for _ in range(chance.randrange(3)):
        key = chance.choice([*message, "id", "type", "text", "how", "", "\n", "__class__"])
        if chance.random() < 0.3:
            message.pop(key, None)
        else:
            message[key] = chance.choice(JUNK)
    if chance.random() < 0.2:
        return message
    raw = bytearray(json.dumps(message).encode())
    for _ in range(chance.choice([0, 1, 1, 2, 8])):
        place = chance.randrange(len(raw) + 1)
        match chance.randrange(4):
            case 0:
                del raw[place : place + chance.randrange(1, 5)]
            case 1:
                raw[place:place] = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 4)))
            case 2:
                raw[place:place] = chance.choice(
                    [b'"', b"{", b"}", b"[", b"\\u", b":", b",", b"\\", b"NaN", b"1e999"]
                )
            case 3 if place < len(raw):
                raw[place] ^= 1 << chance.randrange(8)
    return bytes(raw) if chance.random() < 0.7 else raw.decode("utf-8", "replace")


def test_mutated_messages_are_valid_or_one_invalid_input() -> None:
    chance = random.Random(20261121)
    outcomes = {True: 0, False: 0}
    for _ in range(3000):
        raw = mutated(chance)
        fault = None
        try:
            parse_control(raw, decode_image=grey)
        except InvalidInput as error:
            fault = error
        outcomes[fault is None] += 1
        if fault is not None:
            assert fault.field, raw
            assert 5 < len(fault.message) < 300, raw
            f"{fault.message}{fault.field}".encode()  # can be sent back
        salvage_id(raw)
    assert min(outcomes.values()) > 300


def test_the_id_of_a_refused_message_is_salvaged_when_it_is_one() -> None:
    assert salvage_id('{"id": "a", "type": 5}') == "a"
    ids: list[Any] = ['{"id": 5}', '{"id": ""}', '{"id": "a\\n"}', "{", "[]", b"\xff", {"id": "x" * 65}]
    for raw in ids:
        assert salvage_id(raw) is None
