"""Several servers on one broker, tested without a broker: whose command it is, who is online, and what a
crash left behind."""

from __future__ import annotations

import json

import pytest

from engine.types import SessionClosed
from server.control.mqtt.strays import WAIT_S
from tests.rigs.control.gateway import segment_stats, session_info
from tests.rigs.control.mqtt_desk import Desk


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


def strays_of(desk: Desk, *names: str) -> list[str]:
    """The codes of what is answered to a command for each of these, after a while."""
    desk.sent()
    for name in names:
        desk.command("pause", '{"id": "p", "client": "c"}', session=name)
    desk.strays.answer_due()
    assert desk.sent() == []  # it may have been opened just now
    desk.clock.advance(WAIT_S)
    desk.strays.answer_due()
    return [message["code"] for topic, message in desk.answers() if topic.endswith("/ack/c")]


@pytest.mark.parametrize(("node", "answers"), [("anna", 2), ("zora", 0)])
def test_one_server_of_several_answers_for_sessions_that_nobody_has(node: str, answers: int) -> None:
    """Nobody did, and clients waited for ever."""
    desk = Desk("main", "mine", node=node)
    desk.hear_node("zoe", "online")
    desk.hear_names("zoe", "hers", "main.zoe")
    desk.on_event(SessionClosed("mine", "closed", "the session was closed"))
    del desk.steering.infos["mine"]
    codes = strays_of(desk, "hers", "mine", "main.zoe", "nobody")
    assert codes == ["unknown_session"] * answers
    assert desk.commands.received_total == answers


def test_a_session_that_is_opened_meanwhile_is_answered_by_its_server_alone() -> None:
    desk = Desk(node="anna")
    desk.hear_node("zoe", "online")
    desk.command("pause", session="new")
    desk.hear_names("zoe", "new")
    desk.clock.advance(WAIT_S)
    desk.strays.answer_due()
    assert not [topic for topic in desk.topics_sent() if "/ack/" in topic or "/error" in topic]


def test_another_server_answers_once_the_first_one_is_gone() -> None:
    desk = Desk(node="zora")
    desk.hear_node("anna", "online")
    desk.hear_node("zoe", "online")
    assert strays_of(desk, "nobody") == []
    desk.hear_node("anna", "offline")
    desk.hear_node("zoe", "offline")
    desk.hear_node("zulu", "online")
    assert strays_of(desk, "nobody") == ["unknown_session"]


def test_a_retained_stray_is_cleared() -> None:
    desk = Desk(node="anna")
    desk.hear_node("zoe", "online")
    desk.command("pause", '{"id": "p"}', session="nobody", retain=True)
    desk.clock.advance(WAIT_S)
    desk.sent()
    desk.strays.answer_due()
    sent = desk.sent()
    assert json.loads(sent[0].payload)["code"] == "retained"
    assert [m.topic for m in sent if not m.payload] == ["psistream/v1/session/nobody/cmd/pause"]


def test_a_gateway_says_where_main_is_and_that_a_session_may_come_back() -> None:
    owners = {"g2-a": "g2", "g3-a": "g3", "main": "g2", "lost": ""}
    desk = Desk("g1-x", node="g1", member=True, owner_of=owners.get)
    desk.hear_node("g2", "online", cluster=True)
    desk.hear_node("g4", "online", cluster=True)
    desk.hear_names("g2", "main", "main.g2", "g2-b")
    codes = strays_of(desk, "g2-a", "g3-a", "main.g4", "lost", "g2-b", "main", "main.g2", "nobody")
    assert codes == ["unknown_session", "unavailable", "unknown_session", "unavailable", "unknown_session"]
    second = Desk("main", node="g2", member=True, owner_of=owners.get)
    second.hear_node("g1", "online", cluster=True)
    assert strays_of(second, "nobody", "main.g1") == []


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


def test_plain_main_is_dropped_and_regained_as_servers_come_and_go() -> None:
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


def test_a_restarted_server_does_not_stay_offline_by_its_old_will() -> None:
    desk = Desk()
    desk.hear_node("node", "offline", instance="earlier", retain=True)
    assert desk.topics_sent() == []  # retained messages are overwritten anyway
    desk.hear_node("node", "offline", instance="earlier")
    (message,) = desk.sent()
    assert (message.topic, message.retain) == ("psistream/v1/engine/node/status", True)
    assert json.loads(message.payload)["status"] == "online"


def test_a_server_with_the_same_name_is_reported(caplog: pytest.LogCaptureFixture) -> None:
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


def test_session_names_are_published_before_their_states() -> None:
    """Otherwise a crash between the two would leave a state that the next start does not know about."""
    desk = Desk()
    desk.on_event(session_info("new"))
    sent = desk.topics_sent()
    assert sent.index("engine/node/sessions") < sent.index("session/new/state")
