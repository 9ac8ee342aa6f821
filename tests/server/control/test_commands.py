"""Commands and events of the MQTT bridge without a broker: every kind of fault, routes, expiry, limits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.types import ControlBody, Prompt, Receipt, Reset, Rewind, SessionClosed, Stall
from server.control.base import SessionEvent
from server.control.mqtt.commands import BURST, MAX_ROUTES, Commands
from server.control.mqtt.dispatch import Dispatcher
from server.control.mqtt.message import Properties, read_command
from server.control.mqtt.outbox import Outbox, Outgoing
from server.control.mqtt.peers import Peers
from server.control.mqtt.publisher import Publisher, status_message
from server.control.mqtt.topics import Topics, is_name
from server.ratelimit import TokenBucket
from tests.rigs.control_fakes import FakeSteering, segment_stats, session_info
from tests.rigs.fakes import ManualClock

NOW = 1_800_000_000.0


class Desk:
    """Everything of the bridge but the connection, with a clock set by hand."""

    def __init__(self, *sessions: str, node: str = "node") -> None:
        self.clock = ManualClock()
        self.outbox = Outbox()
        self.steering = FakeSteering(*sessions, applies=False)
        self.topics, self.peers = Topics(), Peers(node, "first")
        self.publisher = Publisher(self.steering, self.outbox, self.topics, self.peers, lambda: None)
        self.commands = Commands(
            self.steering,
            self.publisher,
            self.topics,
            self.peers,
            clock=self.clock,
            wall_clock=lambda: NOW,
        )
        self.dispatcher = Dispatcher(self.topics, self.peers, self.publisher, self.commands)
        self.publisher.put_everything_retained()
        self.sent()

    def on_event(self, event: SessionEvent, *, connected: bool = True) -> None:
        self.commands.on_event(event)
        self.publisher.on_event(event, connected=connected)

    def hear_node(self, node: str, status: str, *, instance: str = "other", retain: bool = False) -> None:
        payload = status_message(node, status, 1, instance)
        self.dispatcher.on_message(f"psistream/v1/engine/{node}/status", payload, retain=retain)

    def command(
        self, verb: str, payload: bytes | str = b"", session: str = "main", retain: bool = False, **extra: Any
    ) -> None:
        raw = payload.encode() if isinstance(payload, str) else payload
        topic = f"psistream/v1/session/{session}/cmd/{verb}"
        self.dispatcher.on_message(topic, raw, Properties(**extra), retain=retain)

    def sent(self) -> list[Outgoing]:
        messages = []
        while (message := self.outbox.take()) is not None:
            messages.append(message)
        return messages

    def answers(self) -> list[tuple[str, dict[str, Any]]]:
        """(topic below the session, message) of what was sent since the last call, without what is told of
        `main` under its own name main.node as well, and without who is there."""
        told = [(m.topic.removeprefix("psistream/v1/session/"), m.payload) for m in self.sent()]
        own = f"main.{self.peers.node}/"
        return [(t, json.loads(p)) for t, p in told if not t.startswith((own, "psistream/v1/engine"))]

    def topics_sent(self) -> list[str]:
        return [message.topic.removeprefix("psistream/v1/") for message in self.sent()]


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
        ("action", b"fly", "invalid", "action"),
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


def test_who_waits_for_an_answer_gets_it_though_another_control_came_with_the_same_id(
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


def test_a_command_in_time_is_taken() -> None:
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


def test_what_may_wait_only_so_long_says_so_on_the_engines_clock() -> None:
    """A control may be in time for the gateway and too late for the segment."""
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


def test_the_retained_state_says_that_the_picture_stands_and_that_it_goes_on() -> None:
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
    assert not bucket.allow(1.0)  # a clock that goes back gives nothing


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
def test_a_bare_number_is_enough_where_a_control_has_one(verb: str, text: str, body: ControlBody) -> None:
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
def test_a_bare_word_that_is_none_is_answered_with_what_belongs_there(
    verb: str, text: str, field: str, says: str
) -> None:
    error = read_command(Topics(), "main", verb, text.encode()).error
    assert error is not None
    assert (error.field, error.message) == (field, says)


# ---- several servers on one broker ----


def test_a_server_is_silent_about_sessions_of_others() -> None:
    desk = Desk("main", "mine")
    desk.hear_node("zoe", "online")
    desk.sent()
    for name in ("hers", "main.zoe"):
        desk.command("pause", '{"id": "p"}', session=name)
        desk.command("explode", b"\xff", session=name)
    assert (desk.sent(), desk.commands.received_total, desk.steering.controls) == ([], 0, [])
    desk.command("pause", session="mine")
    desk.command("pause", session="main.node")
    assert [session for session, _ in desk.steering.controls] == ["mine", "main"]


def test_a_session_that_ended_here_is_answered_for() -> None:
    desk = Desk("main", "mine")
    desk.hear_node("zoe", "online")
    del desk.steering.infos["mine"]
    desk.on_event(SessionClosed("mine", "closed", "the session was closed"))
    desk.sent()
    desk.command("pause", session="mine")
    assert desk.answers()[0][1]["code"] == "unknown_session"


def test_an_unknown_session_is_named_by_the_only_server() -> None:
    desk = Desk()
    desk.command("pause", session="nobody")
    assert desk.answers()[0][1]["code"] == "unknown_session"


@pytest.mark.parametrize(("node", "answers"), [("anna", 2), ("node", 0)])
def test_plain_main_is_ambiguous_among_several_and_one_of_them_says_so(node: str, answers: int) -> None:
    desk = Desk(node=node)
    desk.hear_node("max", "online", retain=True)
    desk.sent()
    desk.command("prompt", '{"id": "p", "text": "a fox"}')
    told = desk.answers()
    assert (len(told), desk.steering.controls) == (answers, [])
    if told:
        (topic, refusal), _ = told
        assert (topic, refusal["code"], refusal["id"]) == ("main/ack/all", "ambiguous", "p")
        assert "psistream/v1/session/main.anna/cmd/prompt" in refusal["message"]
        assert "psistream/v1/session/main.max/cmd/prompt" in refusal["message"]


def test_plain_main_is_given_up_and_taken_back_as_servers_come_and_go() -> None:
    desk = Desk()
    desk.hear_node("zoe", "online")
    sent = {m.topic.removeprefix("psistream/v1/"): m.payload for m in desk.sent()}
    assert sent["session/main/state"] == b""
    assert json.loads(sent["engine/node/sessions"])["sessions"] == ["main.node"]
    desk.on_event(segment_stats())
    assert desk.topics_sent() == ["session/main.node/event"]
    desk.hear_node("max", "online")
    desk.hear_node("zoe", "offline")
    assert desk.topics_sent() == []
    desk.hear_node("max", "offline")
    sent = {m.topic.removeprefix("psistream/v1/"): m.payload for m in desk.sent()}
    assert json.loads(sent["session/main/state"])["node"] == "node"
    desk.command("pause")
    assert len(desk.steering.controls) == 1


def test_who_comes_back_does_not_stay_offline_by_the_will_of_its_earlier_start() -> None:
    desk = Desk()
    desk.hear_node("node", "offline", instance="earlier", retain=True)
    assert desk.topics_sent() == []  # what the broker kept is overwritten anyway
    desk.hear_node("node", "offline", instance="earlier")
    (message,) = desk.sent()
    assert (message.topic, message.retain) == ("psistream/v1/engine/node/status", True)
    assert json.loads(message.payload)["status"] == "online"


def test_a_server_of_the_same_name_is_told(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    desk.hear_node("node", "online", instance="first")  # our own message
    assert desk.dispatcher.twin == ""
    desk.hear_node("node", "online", instance="second")
    desk.hear_node("node", "online", instance="second")
    assert "--node" in desk.dispatcher.twin
    assert caplog.text.count("another server calls itself node") == 1
    desk.hear_node("node", "offline", instance="second")
    assert desk.dispatcher.twin == ""


def test_states_that_an_earlier_start_left_are_cleared() -> None:
    desk = Desk("main", "kept")
    left = json.dumps({"sessions": ["kept", "ghost", "main", "main.node", "no/name", 5]}).encode()
    desk.dispatcher.on_message("psistream/v1/engine/node/sessions", left, retain=True)
    cleared = [m.topic for m in desk.sent() if m.payload == b""]
    assert cleared == ["psistream/v1/session/ghost/state"]


def test_the_names_of_sessions_are_told_before_their_states() -> None:
    """Otherwise a crash between the two would leave a state that the next start does not know of."""
    desk = Desk()
    desk.on_event(session_info("new"))
    sent = desk.topics_sent()
    assert sent.index("engine/node/sessions") < sent.index("session/new/state")


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


def test_text_that_looks_like_json_is_a_prompt_where_it_says_that_it_is_text() -> None:
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


def test_who_named_a_response_topic_gets_a_receipt_beyond_the_rate_without_an_id() -> None:
    desk = Desk()
    for _ in range(BURST + 1):
        desk.command("action", "left", response_topic="to", correlation=b"k")
    assert [m.topic for m in desk.sent()].count("to") == BURST + 1
