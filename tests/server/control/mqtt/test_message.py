"""Messages on command topics: names, bare words and numbers, and MQTT 5 properties."""

from __future__ import annotations

import json

import pytest

from engine.types import ControlBody, Prompt, Receipt, Reset, Rewind
from server.control.mqtt.commands import BURST
from server.control.mqtt.message import Properties, read_command
from server.control.mqtt.topics import Topics, is_name
from tests.rigs.control.mqtt_desk import Desk


def test_names_and_topics() -> None:
    topics = Topics()
    assert topics.parse_command("psistream/v1/session/a-b.C_1/cmd/prompt") == ("a-b.C_1", "prompt")
    assert not any(map(is_name, ["", "a/b", "+", "#", "a b", "-a", "x" * 65, "ä", None, 5]))
    assert topics.may_reply_to("psistream/v1/session/a/ack/me", "a")
    assert not topics.may_reply_to("psistream/v1/session/b/ack/me", "a")
    assert not any(
        topics.may_reply_to(topic, "a") for topic in ["$SYS", "x" * 300, "a\x00", "+", "psistream/x", None]
    )


@pytest.mark.parametrize(
    ("verb", "text", "body"),
    [
        ("rewind", "5", Rewind(5.0)),
        ("rewind", " 2.5\n", Rewind(2.5)),
        ("rewind", ".5", Rewind(0.5)),
        ("rewind", '"5"', Rewind(5.0)),
        ("reset", "42", Reset(42)),
        ("reset", "", Reset()),
    ],
)
def test_a_bare_number_is_enough_for_controls_with_a_number(verb: str, text: str, body: ControlBody) -> None:
    control = read_command(Topics(), "main", verb, text.encode()).control
    assert control is not None
    assert control.body == body


@pytest.mark.parametrize(
    ("verb", "text", "field", "says"),
    [
        ("rewind", "abc", "seconds", "seconds must be a number above 0, at most 3600"),
        ("rewind", "-5", "seconds", "seconds must be a number above 0, at most 3600"),
        ("rewind", "99999", "seconds", "seconds must be a number above 0, at most 3600"),
        ("rewind", "5s", "seconds", "seconds must be a number above 0, at most 3600"),
        ("rewind", "", "seconds", "seconds is missing: it must be a number above 0, at most 3600"),
        ("reset", "abc", "seed", "seed must be a whole number from 0 to 4294967295"),
        ("reset", "1.5", "seed", "seed must be a whole number from 0 to 4294967295"),
        ("pause", "abc", "message", "pause takes an empty message or a JSON object"),
    ],
)
def test_an_invalid_bare_word_is_answered_with_the_valid_ones(
    verb: str, text: str, field: str, says: str
) -> None:
    error = read_command(Topics(), "main", verb, text.encode()).error
    assert error is not None
    assert (error.field, error.message) == (field, says)


# ---- MQTT 5 ----


def test_every_answer_repeats_the_correlation_data_and_the_user_properties() -> None:
    desk = Desk()
    mine = (("trace", "00-ab"), ("trace", "00-cd"))
    desk.command("pause", '{"id": "p"}', response_topic="game/in", correlation=b"k", user=mine)
    desk.on_event(Receipt("main", "p", "applied", 1, 8))
    desk.command("explode", "{}", response_topic="game/in", correlation=b"k", user=mine)
    answers = [m for m in desk.sent() if m.topic == "game/in"]
    assert [json.loads(m.payload)["status"] for m in answers] == ["received", "applied", "rejected"]
    assert {(m.correlation, m.user) for m in answers} == {(b"k", mine)}


def test_user_properties_that_are_many_are_not_repeated() -> None:
    assert Properties(user=(("a", "b"),) * 17).returned == ()
    assert Properties(user=(("a", "b" * 3000),)).returned == ()


@pytest.mark.parametrize(
    ("content_type", "payload", "field"),
    [
        ("application/json", '{"text": "a fox"}', None),
        ("application/json; charset=utf-8", '{"text": "a fox"}', None),
        ("text/plain", "a fox", None),
        ("application/json", "a fox", "message"),
        ("image/png", "a fox", "content_type"),
    ],
)
def test_the_content_type_counts(content_type: str, payload: str, field: str | None) -> None:
    desk = Desk()
    desk.command("prompt", payload, content_type=content_type)
    assert desk.answers()[0][1].get("field") == field
    assert len(desk.steering.controls) == (field is None)


def test_json_with_content_type_text_is_a_prompt() -> None:
    desk = Desk()
    desk.command("prompt", "{a fox}", content_type="text/plain")
    assert [control.body for _, control in desk.steering.controls] == [Prompt("{a fox}")]


def test_every_command_with_an_id_gets_a_receipt_also_beyond_the_rate() -> None:
    desk = Desk()
    for number in range(500):
        desk.command("action", f'{{"id": "a{number}", "action": "left"}}')
    answers = [message for topic, message in desk.answers() if topic == "main/ack/all"]
    assert [answer["id"] for answer in answers] == [f"a{number}" for number in range(500)]
    codes = [answer["code"] for answer in answers]
    assert codes == [None] * BURST + ["rate_limited"] * (500 - BURST)


def test_a_response_topic_gets_a_receipt_beyond_the_rate_without_an_id() -> None:
    desk = Desk()
    for _ in range(BURST + 1):
        desk.command("action", "left", response_topic="to", correlation=b"k")
    assert [m.topic for m in desk.sent()].count("to") == BURST + 1
