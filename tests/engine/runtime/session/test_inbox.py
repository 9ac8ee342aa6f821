"""The inbox of a session: bounded, ordered, each id answered once."""

from __future__ import annotations

from engine.runtime.session.inbox import Inbox
from engine.types import Action, Control, ControlBody, Pause, Prompt, Receipt, Reset, Rewind


def applied(inbox: Inbox) -> list[str]:
    """Take all and answer all as the engine does; their ids."""
    controls = inbox.take()
    for control in controls:
        inbox.answer(Receipt("s", control.id, "applied", segment=1, frame=8))
    return [control.id for control in controls]


def test_controls_come_out_in_the_order_they_came_in() -> None:
    inbox = Inbox("s", 8, 16)
    bodies: list[ControlBody] = [Prompt("a"), Action("left"), Pause(), Prompt("b")]
    for i, body in enumerate(bodies):
        assert inbox.offer(Control(str(i), body)) == []
    assert applied(inbox) == ["0", "1", "2", "3"]
    assert len(inbox) == 0


def test_a_full_inbox_drops_the_oldest_action_and_says_so() -> None:
    inbox = Inbox("s", 3, 16)
    for control in (Control("p", Prompt("a")), Control("a1", Action("left")), Control("a2", Action("right"))):
        inbox.offer(control)
    answers = inbox.offer(Control("p2", Prompt("b")))
    assert [(a.id, a.status, a.code) for a in answers] == [("a1", "rejected", "superseded")]
    assert applied(inbox) == ["p", "a2", "p2"]


def test_a_full_inbox_without_actions_refuses_the_newcomer_and_keeps_every_prompt() -> None:
    inbox = Inbox("s", 3, 16)
    for i in range(3):
        inbox.offer(Control(str(i), Prompt("a")))
    answers = inbox.offer(Control("late", Action("left")))
    assert [(a.id, a.status, a.code) for a in answers] == [("late", "rejected", "busy")]
    assert applied(inbox) == ["0", "1", "2"]


def test_in_the_middle_of_a_segment_only_what_takes_effect_at_once_comes_out_and_what_was_before() -> None:
    inbox = Inbox("s", 8, 16)
    inbox.offer(Control("0", Prompt("a")))
    assert inbox.take(between=False) == []
    bodies: list[ControlBody] = [Rewind(1.0), Action("left"), Reset(when="now"), Prompt("b"), Pause()]
    for n, body in enumerate(bodies, 1):
        inbox.offer(Control(str(n), body))
    assert [c.id for c in inbox.take(between=False)] == ["0", "1", "2", "3"]
    assert inbox.take(between=False) == []
    assert [c.id for c in inbox.take()] == ["4", "5"]


def test_an_id_has_one_effect_and_its_answer_is_repeated() -> None:
    inbox = Inbox("s", 8, 16)
    inbox.offer(Control("x", Action("left")))
    assert inbox.offer(Control("x", Action("right"))) == []  # still waits: its answer will come
    assert applied(inbox) == ["x"]
    again = inbox.offer(Control("x", Action("right")))
    assert [(a.id, a.status, a.segment) for a in again] == [("x", "applied", 1)]
    assert applied(inbox) == []


def test_a_flood_neither_grows_the_memory_nor_makes_a_waiting_id_forgotten() -> None:
    inbox = Inbox("s", 4, 8)
    for i in range(4):
        inbox.offer(Control(f"p{i}", Prompt("a")))
    for i in range(1000):
        inbox.offer(Control(f"x{i}", Prompt("b")))
    assert len(inbox._answers) <= 9
    assert inbox.offer(Control("p0", Prompt("again"))) == []
    assert applied(inbox) == ["p0", "p1", "p2", "p3"]
