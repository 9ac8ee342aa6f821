"""Commands and events of the MQTT bridge without a broker: every kind of error, routing, expiry, limits."""

from __future__ import annotations

import json

import pytest

from engine.types import Prompt, Receipt, Reset, Stall
from server.control.mqtt.commands import BURST, MAX_ROUTES
from server.control.mqtt.connection.outbox import Outbox, Outgoing
from server.ratelimit import TokenBucket
from tests.rigs.control.gateway import segment_stats, session_info
from tests.rigs.control.mqtt_desk import NOW, Desk


@pytest.mark.parametrize(
    ("verb", "payload", "code", "field"),
    [
        ("prompt", b'{"text": ', "invalid", "message"),
        ("prompt", b'{"text": 5}', "invalid", "text"),
        ("prompt", b'{"how": "cut"}', "invalid", "text"),
        ("prompt", b'{"text": "x", "how": "sideways"}', "invalid", "how"),
        ("prompt", b'{"text": "x", "colour": 1}', "invalid", "colour"),
        ("prompt", b'{"text": "x", "text": "y"}', "invalid", "text"),
        ("prompt", b"", "invalid", "text"),
        ("prompt", b'""', "invalid", "text"),
        ("prompt", b" \n\t\x00", "invalid", "text"),
        ("prompt", b"x" * 3000, "invalid", "text"),
        ("prompt", b"x" * 20_000, "invalid", "message"),
        ("prompt", b"{" * 10_000, "invalid", "message"),
        ("prompt", b"\xff\xfe\x00", "invalid", "message"),
        ("prompt", b'{"type": "pause", "text": "x"}', "invalid", "type"),
        ("prompt", b'{"text": "x", "id": 7}', "invalid", "id"),
        ("prompt", b'{"text": "x", "client": "a/b"}', "invalid", "client"),
        ("prompt", b'{"text": "x", "client": null}', "invalid", "client"),
        ("prompt", b'{"text": "x", "expires_at": "soon"}', "invalid", "expires_at"),
        ("prompt", b'{"text": "x", "expires_at": true}', "invalid", "expires_at"),
        ("prompt", b'{"text": "x", "expires_at": 1' + b"0" * 400 + b"}", "invalid", "expires_at"),
        ("prompt", b'{"text": "x", "expires_at": 12}', "expired", "expires_at"),
        ("prompt", b'{"text": "x", "expires_at": 1799999999.5}', "expired", "expires_at"),
        ("prompt", b'{"text": "x", "reply_to": "psistream/v1/session/b/cmd/pause"}', "invalid", "reply_to"),
        ("prompt", b'{"text": "x", "reply_to": "game/#"}', "invalid", "reply_to"),
        ("prompt", b'{"text": "x", "reply_to": ""}', "invalid", "reply_to"),
        ("action", b"", "invalid", "action"),
        ("action", b"{}", "invalid", "action"),
        ("pause", b"now", "invalid", "message"),
        ("pause", b"[]", "invalid", "message"),
        ("reset", b"-1", "invalid", "seed"),
        ("reset", b"4294967296", "invalid", "seed"),
        ("reset", b'{"seed": NaN}', "invalid", "message"),
        ("image", b"{}", "invalid", "verb"),
        ("explode", b"{}", "invalid", "verb"),
    ],
)
def test_each_fault_names_its_field(verb: str, payload: bytes, code: str, field: str) -> None:
    desk = Desk()
    desk.command(verb, payload)
    (ack_topic, ack), (error_topic, error) = desk.answers()
    assert ack_topic in ("main/ack/all", "main/ack/a")
    assert error_topic == "main/error"
    assert (ack["status"], ack["code"], ack["field"]) == ("rejected", code, field)
    assert (error["id"], error["code"], error["field"]) == (ack["id"], code, field)
    assert field.split()[0] in ack["message"] or field in ("message", "verb", "expires_at")
    assert 10 < len(ack["message"]) < 300
    assert desk.steering.controls == []


def test_a_pending_answer_arrives_despite_another_control_with_its_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk("main")
    desk.command("prompt", '{"id": "p1", "client": "a", "text": "a fox"}')
    (waiting,) = desk.steering.controls
    desk.answers()
    refused = Receipt("main", "p1", "rejected", code="id_reused", message="send it with a new id")
    monkeypatch.setattr(desk.steering, "submit", lambda session, control: refused)
    desk.command("pause", '{"id": "p1", "client": "b"}')
    ((topic, answer),) = desk.answers()
    assert (topic, answer["code"]) == ("main/ack/b", "id_reused")
    applied = Receipt("main", waiting[1].id, "applied", segment=3, frame=24)
    desk.on_event(applied, connected=False)
    assert [topic for topic, _ in desk.answers()] == ["main/ack/a"]


def test_a_fault_is_answered_to_the_client_and_id_that_made_it() -> None:
    desk = Desk()
    desk.command("prompt", '{"id": "p9", "client": "game", "text": 5}')
    topic, answer = desk.answers()[0]
    assert (topic, answer["id"]) == ("main/ack/game", "p9")


def test_reply_to_goes_before_client_and_response_topic() -> None:
    desk = Desk()
    desk.command("pause", '{"reply_to": "to", "client": "c"}', response_topic="five", correlation=b"k")
    desk.command("pause", '{"client": "c"}', response_topic="five", correlation=b"k")
    desk.command("pause", "{}", response_topic="five", correlation=b"k")
    assert [(m.topic.rsplit("/", 1)[-1], m.correlation) for m in desk.sent()] == [
        ("to", b"k"),
        ("c", b"k"),
        ("five", b"k"),
    ]


def test_a_command_in_time_is_accepted() -> None:
    desk = Desk()
    desk.command("reset", '{"seed": 5, "expires_at": 1800000001}')
    assert [control.body for _, control in desk.steering.controls] == [Reset(5)]


def test_a_quoted_and_a_bare_prompt_are_the_same() -> None:
    desk = Desk()
    for payload in ('"a \\u0063at"', "a cat", '{"text": "a cat"}', "  a   cat\n"):
        desk.command("prompt", payload)
    assert {control.body for _, control in desk.steering.controls} == {Prompt("a cat")}


@pytest.mark.parametrize(
    "topic", ["", "a/b", "psistream/v1/session//cmd/pause", "psistream/v1/session/ü/cmd/pause"]
)
def test_topics_that_name_no_session_are_counted_only(topic: str) -> None:
    desk = Desk()
    desk.dispatcher.on_message(topic, b"{}")
    assert (desk.commands.rejected_total, desk.sent()) == (1, [])


def test_a_flood_gets_few_answers_and_other_sessions_notice_nothing() -> None:
    desk = Desk("main", "other")
    for _ in range(1000):
        desk.command("action", "left")
    assert len(desk.steering.controls) == BURST
    errors = [message for topic, message in desk.answers() if topic == "main/error"]
    assert 1 <= len(errors) <= 20
    assert {error["code"] for error in errors} == {"rate_limited"}
    desk.command("action", "right", session="other")
    assert desk.answers()[0][1]["status"] == "received"
    desk.clock.advance(1.0)
    desk.command("action", "right")
    assert desk.answers()[0][1]["status"] == "received"


def test_expiry_is_converted_to_the_engines_clock() -> None:
    """A control may be in time for the gateway but too late for the segment."""
    desk = Desk()
    desk.command("pause", f'{{"id": "a", "expires_at": {NOW + 3}}}')
    desk.command("pause", f'{{"id": "b", "expires_at": {NOW + 3}}}', expiry_s=2)
    desk.command("pause", '{"id": "c"}', expiry_s=5)
    desk.command("pause", '{"id": "d"}')
    left_s = [c.expires_s and c.expires_s - desk.clock() for _, c in desk.steering.controls]
    assert left_s == [3.0, 2.0, 5.0, None]


def test_invented_session_names_do_not_fill_the_memory() -> None:
    desk = Desk()
    for number in range(1000):
        desk.command("pause", session=f"s{number}")
    assert len(desk.commands._buckets) == 1


def test_only_the_latest_controls_are_routed_back() -> None:
    desk = Desk()
    for number in range(MAX_ROUTES + 10):
        desk.clock.advance(1.0)
        desk.command("pause", f'{{"id": "p{number}", "client": "c"}}')
    desk.sent()
    for number in (0, MAX_ROUTES + 9):
        desk.on_event(Receipt("main", f"p{number}", "applied", 1, 8), connected=True)
    assert [topic for topic, _ in desk.answers()] == ["main/ack/c", "main/event", "main/event"]


def test_without_a_broker_events_are_not_kept_but_answers_and_states_are() -> None:
    desk = Desk()
    desk.command("pause", '{"id": "p"}')
    desk.on_event(Receipt("main", "p", "applied", 1, 8), connected=False)
    for segment in range(10):
        desk.on_event(segment_stats(segment=segment), connected=False)
        desk.on_event(session_info(prompt=f"prompt {segment}"), connected=False)
    kinds = [(topic, message.get("status"), message.get("prompt")) for topic, message in desk.answers()]
    assert kinds == [
        ("main/ack/all", "received", None),
        ("main/ack/all", "applied", None),
        ("main/state", None, "prompt 9"),
    ]


def test_the_retained_state_reports_a_stall_and_its_end() -> None:
    desk = Desk()
    for left_s in (30.0, 29.0):
        desk.on_event(session_info(buffering=Stall(0.04, 0.2, left_s)), connected=True)
    [(topic, message)] = [m for m in desk.answers() if m[0].endswith("/state")]
    assert (topic, message["buffering"]) == (
        "main/state",
        {"speed": 0.04, "rate": 0.2, "resumes_in_s": 29.0},
    )
    desk.on_event(session_info(), connected=True)
    desk.on_event(segment_stats(rate=0.2), connected=True)
    state, event = (message for _, message in desk.answers())
    assert state["buffering"] is None
    assert (event["speed"], event["rate"]) == (0.5, 0.2)


def test_the_outbox_is_bounded_and_counts_what_it_drops() -> None:
    outbox = Outbox(answers=3, events=2, states=2)
    for number in range(10):
        outbox.put_answer(Outgoing(f"a{number}", b"", 1))
        outbox.put_event(Outgoing(f"e{number}", b"", 0))
        outbox.put_state(Outgoing(f"s{number % 4}", b"", 1, True))
    outbox.put_answer(Outgoing("large", b"x" * 100_000, 1))
    assert (len(outbox), outbox.dropped_total) == (7, 7 + 8 + 8 + 1)
    taken = [message.topic for message in iter(outbox.take, None) if message is not None]
    assert taken == ["a7", "a8", "a9", "s0", "s1", "e8", "e9"]


def test_a_token_bucket_refills_and_never_runs_over() -> None:
    bucket = TokenBucket(rate_hz=10, burst=3, now_s=0.0)
    assert [bucket.allow(0.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.allow(0.1), bucket.allow(0.1)] == [True, False]
    assert [bucket.allow(99.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.allow(1.0)  # a clock that goes back adds nothing


def test_a_command_for_a_session_that_waits_for_a_place_is_refused_for_now() -> None:
    """The refusal says when to retry, and the same id counts then."""
    desk = Desk("main")
    desk.steering.waiting.add("main")
    desk.command("prompt", '{"id": "p1", "client": "a", "text": "a fox"}')
    (ack_topic, ack), (_, error) = desk.answers()
    assert (ack_topic, ack["code"], ack["retry_after_s"]) == ("main/ack/a", "full", 5)
    assert (error["id"], error["retry_after_s"]) == ("p1", 5)
    desk.steering.waiting.clear()
    desk.command("prompt", '{"id": "p1", "client": "a", "text": "a fox"}')
    assert desk.answers()[0][1]["status"] == "received"


def test_a_gateway_answers_for_its_sessions_that_wait() -> None:
    """Another one took them for sessions that have ended, since nobody seemed to have them."""
    first = Desk("main", node="g1", member=True, owner_of=lambda session: "g2")
    second = Desk(node="g2", member=True)
    first.hear_node("g2", "online", cluster=True)
    second.steering.waiting.add("g2-abc")
    second.publisher.put_names()
    (names,) = [json.loads(message.payload) for message in second.sent()]
    assert "g2-abc" in names["sessions"]
    first.hear_names("g2", "g2-abc")
    for desk in (first, second):
        desk.command("pause", '{"id": "p1", "client": "a"}', "g2-abc")
        desk.clock.now_s += 10.0
        desk.strays.answer_due()
    assert first.answers() == []
    assert [answer["code"] for _, answer in second.answers()] == ["full", "full"]
