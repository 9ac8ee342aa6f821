"""The control schema: what is valid; everything else is one clear InvalidInput."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from engine.errors import InvalidInput
from engine.types import (
    Action,
    ByteArray,
    ControlBody,
    Image,
    Pause,
    Prompt,
    Receipt,
    Reset,
    Resume,
    Rewind,
    SessionClosed,
    Weighted,
)
from engine.wire.parse import (
    MAX_HTTP_MESSAGE_BYTES,
    parse_control,
    parse_fork,
    parse_new_session,
)
from engine.wire.strict_json import dump
from server.control.protocol import event_json, receipt_json
from tests.rigs.control.gateway import segment_stats, session_info
from tests.server.control.pictures import grey

PICTURE = base64.b64encode(b"\x89PNG picture").decode()


def not_a_picture(data: bytes) -> ByteArray:
    raise InvalidInput("the data is not a picture: send PNG, JPEG or WebP")


@pytest.mark.parametrize(
    ("message", "body"),
    [
        ({"type": "prompt", "text": "a fox"}, Prompt("a fox", "recondition")),
        ({"type": "prompt", "text": "a fox", "how": "cut"}, Prompt("a fox", "cut")),
        ({"type": "prompt", "text": "e\u0301\x00 \u202ea\r\n\tb\x7f"}, Prompt("é a b")),
        ({"type": "prompt", "text": "🤖‍👩 狐"}, Prompt("🤖‍👩 狐")),
        ({"type": "prompt", "text": "x" * 2048}, Prompt("x" * 2048)),
        ({"type": "prompt", "text": "a fox", "how": "soft"}, Prompt("a fox", "soft", "next", 4)),
        (
            {"type": "prompt", "text": "a fox", "how": "soft", "when": "now", "transition_segments": 64},
            Prompt("a fox", "soft", "now", 64),
        ),
        (
            {"type": "prompt", "prompts": [{"text": " a  fox"}, {"text": "a cube", "weight": 2}]},
            Prompt((Weighted("a fox"), Weighted("a cube", 2.0))),
        ),
        ({"type": "prompt", "text": "a fox", "prompts": None}, Prompt("a fox")),
        ({"type": "reset", "when": "now"}, Reset(None, "now")),
        ({"type": "rewind", "seconds": 5}, Rewind(5.0)),
        ({"type": "rewind", "seconds": 0.25}, Rewind(0.25)),
        ({"type": "action", "action": "left"}, Action("left")),
        ({"type": "action", "action": None}, Action(None)),
        ({"type": "pause"}, Pause()),
        ({"type": "resume"}, Resume()),
        ({"type": "reset"}, Reset(None)),
        ({"type": "reset", "seed": None}, Reset(None)),
        ({"type": "reset", "seed": 0}, Reset(0)),
        ({"type": "reset", "seed": 2**32 - 1}, Reset(2**32 - 1)),
    ],
)
def test_valid_messages(message: dict[str, Any], body: ControlBody) -> None:
    text = json.dumps(message)
    for raw in (message, text, text.encode(), json.dumps(message, ensure_ascii=False).encode()):
        assert parse_control(raw).body == body


def test_the_id_is_the_senders_or_made_here() -> None:
    assert parse_control('{"id": "my id 1", "type": "pause"}').id == "my id 1"
    made = {parse_control('{"type": "pause"}').id for _ in range(100)}
    assert len(made) == 100
    assert all(0 < len(id_) <= 64 for id_ in made)


def test_an_image_is_decoded_by_the_hook() -> None:
    message = {"type": "image", "data": PICTURE}
    control = parse_control(message, max_bytes=MAX_HTTP_MESSAGE_BYTES, decode_image=grey)
    assert isinstance(control.body, Image)
    assert control.body.pixels[0, 0, 0] == 12
    with pytest.raises(InvalidInput, match="HTTP only") as caught:
        parse_control(message)
    assert caught.value.field == "type"
    with pytest.raises(InvalidInput, match="not a picture") as caught:
        parse_control(message, decode_image=not_a_picture)
    assert caught.value.field == "data"


def test_a_new_session() -> None:
    wanted, pixels = parse_new_session({"prompt": " a  fox ", "seed": 3, "image": PICTURE}, decode_image=grey)
    assert (wanted.prompt, wanted.seed) == ("a fox", 3)
    assert pixels is not None
    assert parse_new_session(b'{"prompt": "a fox"}')[1] is None
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x", "text": 1}, "text"),
        ({"snapshot": "#"}, "snapshot"),
        ({"snapshot": "AAAA", "image": PICTURE}, "image"),
    ]
    for body, field in wrong:
        with pytest.raises(InvalidInput) as caught:
            parse_new_session(body)
        assert caught.value.field == field
    assert parse_new_session({"snapshot": "AAAA"})[0].prompt is None


def test_a_fork() -> None:
    assert parse_fork(b"{}").rewind_s == 0
    wanted = parse_fork({"rewind_s": 5, "prompt": " a  fox ", "seed": 3})
    assert (wanted.rewind_s, wanted.prompt, wanted.seed) == (5, "a fox", 3)
    for body, field in (({"rewind_s": -1}, "rewind_s"), ({"seed": "x"}, "seed"), ({"when": "now"}, "when")):
        with pytest.raises(InvalidInput) as caught:
            parse_fork(body)
        assert caught.value.field == field


def test_outgoing_messages() -> None:
    applied = Receipt("main", "a", "applied", segment=3, frame=24)
    assert receipt_json(applied, pts_90k=90_000) == {
        "type": "receipt",
        "session": "main",
        "id": "a",
        "status": "applied",
        "segment": 3,
        "frame": 24,
        "code": None,
        "message": None,
        "pts_90k": 90_000,
    }
    rejected = Receipt("main", "a", "rejected", code="invalid", message="no")
    assert receipt_json(rejected, field="text")["field"] == "text"
    assert event_json(session_info())["type"] == "session"
    assert event_json(SessionClosed("main", "closed", "over")) == {
        "type": "closed",
        "session": "main",
        "code": "closed",
        "message": "over",
    }
    fenced = event_json(SessionClosed("main", "fenced", "over", lost_frames=(8, 16)))
    assert fenced["lost_frames"] == (8, 16)
    stats = segment_stats()
    stats.timings_ms["denoise"] = float("nan")
    assert event_json(stats)["timings_ms"] == {"denoise": None, "total": 200.0}
    dump(event_json(stats))
