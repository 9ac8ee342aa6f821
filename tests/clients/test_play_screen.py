"""What `psistream play` reads from the keyboard and draws on the terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from clients.pace import pace
from clients.play.keys import FIRST_HOLD_S, HOLD_S, HeldAction, Keys
from clients.play.screen import RECEIPTS, TerminalScreen
from clients.steer import SteerError
from clients.steer.mqtt import Broker


def test_keys_are_decoded_in_whatever_pieces_they_come() -> None:
    data = "\x1b[D\x1bOC\x1b[1;5A\x1b[15~é狐\r\x7f\t".encode()
    expected = ["left", "right", "up", "é", "狐", "enter", "backspace", "tab"]
    assert Keys().feed(data) == expected
    keys = Keys()
    assert [key for byte in data for key in keys.feed(bytes([byte]))] == expected


def test_a_lone_escape_is_a_key_once_nothing_follows() -> None:
    keys = Keys()
    assert keys.feed(b"\x1b") == []
    assert keys.waiting
    assert keys.flush() == ["escape"]
    assert keys.flush() == []
    assert keys.feed(b"\x1bq") == ["escape", "q"]
    assert keys.feed(b"\xff\x00\x01q") == ["\ufffd", "q"]


def test_a_key_is_held_until_its_repeats_end() -> None:
    held = HeldAction()
    assert held.press("left", 0.0)
    assert not held.expire(FIRST_HOLD_S - 0.01)  # keyboards wait about half a second before they repeat
    assert not held.press("left", 0.5)
    assert not held.press("left", 0.6)
    assert not held.expire(0.6 + HOLD_S - 0.01)
    assert held.expire(0.6 + HOLD_S)
    assert held.current is None
    assert not held.expire(99.0)
    assert held.press("left", 100.0)
    assert held.press("right", 100.1)
    assert held.current == "right"


def rendered(screen: TerminalScreen) -> list[str]:
    console = Console(width=80, height=24, file=io.StringIO(), color_system=None)
    console.print(screen.render())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_the_screen_fits_80x24_and_lets_nothing_through_to_the_terminal() -> None:
    """Otherwise a hostile broker could write escape sequences into the user's terminal."""
    evil = "\x1b]0;gotcha\x07\x9b31m" + "long " * 100
    screen = TerminalScreen("main", "mqtt://127.0.0.1:1883", engine=evil, notice=evil)
    screen.info = {"prompt": evil, "action": evil, "segment": evil, "seed": True, "state_bytes": 10**400}
    screen.stats = {"timings_ms": {"total": float("nan")}, "lead_ms": None}
    for number in range(2 * RECEIPTS):
        screen.remember(f"c{number}", evil, 0.0)
        screen.hear({"id": f"c{number}", "status": "rejected", "code": evil, "message": evil}, 1.0)
    lines = rendered(screen)
    assert len(lines) <= 24
    assert all(len(line) <= 80 for line in lines)
    assert all(line.isprintable() for line in lines)
    screen.editing = "x" * 2000
    assert any("x▏" in line for line in rendered(screen))


def test_a_slow_device_is_shown() -> None:
    screen = TerminalScreen("main", "broker")
    assert any("playing" in line for line in rendered(screen))
    screen.stats = {"rate": 0.48}
    assert any("slow motion, 0.48×" in line for line in rendered(screen))
    screen.info = {"buffering": {"speed": 0.04, "rate": 0.2, "resumes_in_s": 11.2}}
    assert any("buffering, resumes in about 12 s" in line for line in rendered(screen))
    screen.info = {"buffering": None, "paused": True}
    assert any("paused" in line for line in rendered(screen))


@pytest.mark.parametrize("odd", [None, "x", True, float("nan"), float("inf"), 10**400, -1, 0, [], {}])
def test_malformed_speeds_are_ignored(odd: object) -> None:
    assert pace({"buffering": {"resumes_in_s": odd}}, {}) == "buffering, resumes any moment"
    assert pace({}, {"rate": odd}) == ""
    assert pace({"buffering": None if isinstance(odd, dict) else odd}, {"rate": 1.0}) == ""


def test_receipts_of_others_are_not_ours() -> None:
    screen = TerminalScreen("main", "broker")
    screen.remember("a", "left", 10.0)
    screen.hear({"id": "b", "status": "received"}, 10.1)
    screen.hear({"id": ["a"], "status": None}, 10.1)
    assert not screen.sent["a"].received_ms
    screen.hear({"id": "a", "status": "received"}, 10.25)
    screen.hear({"id": "a", "status": "applied", "segment": 5, "frame": 40}, 10.5)
    assert (screen.sent["a"].received_ms, screen.sent["a"].applied_ms) == (250.0, 500.0)
    assert any("250 ms" in line and "500 ms" in line and "40" in line for line in rendered(screen))


def test_broker_urls() -> None:
    assert Broker.parse("mqtt://h") == Broker("h", 1883)
    assert Broker.parse("mqtts://u:p%20w@h") == Broker("h", 8883, True, "u", "p w")
    assert "p w" not in repr(Broker.parse("mqtts://u:p%20w@h"))
    with pytest.raises(SteerError):
        Broker.parse("mqtt://[")
