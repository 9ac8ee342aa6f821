"""Steering and moments from the command line: what `psistream view` requests from a real server, and its
errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.server.subject import Subject, own_server
from clients.errors import ViewError
from clients.mix import mixed
from clients.refusal import refusal
from clients.target import Target
from clients.view.command import main
from clients.view.steering import SentControls
from tests.rigs.server.fake_device import FAKE_OPTIONS
from tests.rigs.waiting import LONG_S


@pytest.fixture(scope="module")
def server() -> Iterator[Subject]:
    with own_server([*FAKE_OPTIONS, "--prompt", "a red ball rolls right"]) as subject:
        yield subject


def sessions(server: Subject) -> set[str]:
    told = httpx.get(f"{server.target.base}v1/sessions", timeout=LONG_S).json()["sessions"]
    return {session["id"] for session in told}


def test_a_session_is_steered_and_its_receipts_are_shown(
    server: Subject, capsys: pytest.CaptureFixture[str]
) -> None:
    steer = ["--rewind", "1", "--prompt", "a fox 70% | a cube", "--how", "soft", "--when", "now"]
    assert main([server.target.base, *steer, "--seconds", "2"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"rewind applied after \d+ ms, segment \d+, frame \d+ \(back by", said), said
    assert re.search(r"prompt applied after \d+ ms", said), said
    assert "70% a fox + 30% a cube" in said


def test_a_moment_is_saved_and_gone_on_from(
    server: Subject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, path = sessions(server), tmp_path / "moment.safetensors"
    base = server.target.base
    assert main([base, "--prompt", "a green cube", "--seconds", "1.5", "--save", str(path)]) == 0
    assert f"this moment, {path.stat().st_size} bytes" in " ".join(capsys.readouterr().out.split())
    assert main([base, "--from", str(path), "--seconds", "0.5"]) == 0
    assert "a green cube" in capsys.readouterr().out
    assert sessions(server) == before, "a session that was opened for this is closed after it"


def test_another_future_is_watched_and_kept_if_that_is_wished(
    server: Subject, capsys: pytest.CaptureFixture[str]
) -> None:
    before, base = sessions(server), server.target.base
    assert main([base, "--fork", "2", "--seconds", "0.5"]) == 0
    assert sessions(server) == before
    assert main([base, "--fork", "--keep", "--seconds", "0.5"]) == 0
    link = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(f"{base}?session="))
    (new,) = sessions(server) - before
    target = Target.parse(link)
    assert target.session == new
    assert httpx.delete(target.path, headers=target.headers, timeout=LONG_S).status_code == 204


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rewind", "0"], "--rewind must be a number of seconds"),
        (["--rewind", "nan"], "--rewind must be a number of seconds"),
        (["--prompt", " "], "--prompt must not be empty"),
        (["--prompt", "a 0% | b"], "--prompt: 'a' has a share of 0 %"),
        (["--how", "cut"], "belongs to --prompt: give that too"),
        (["--fork", "-1"], "--fork must be a number of seconds"),
        (["--keep"], "--keep belongs to --from or --fork: give"),
        (["--from", "nowhere"], "--from: cannot read nowhere: No such file"),
        (["--from", __file__], "snapshot: this is not a snapshot"),
        (["--save", "/nowhere/x"], "--save: cannot write /nowhere/x: No such file"),
    ],
)
def test_wrong_arguments_are_one_line_that_names_them(
    server: Subject, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([server.target.base, "--seconds", "1", *arguments]) == 2
    errors = capsys.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1


def test_a_rejected_control_ends_view_with_the_servers_message() -> None:
    steering = SentControls([{"type": "prompt", "text": "x"}], clock=lambda: 1.0)
    steering.send(lambda control: "p1")
    steering.hear({"type": "receipt", "id": "p1", "status": "received"})
    steering.hear({"type": "receipt", "id": "somebody else's", "status": "rejected", "message": "no"})
    assert steering.rows() == [("prompt", "received after 0 ms")]
    told = {"id": "p1", "status": "rejected", "field": "text", "message": "it is too long"}
    with pytest.raises(ViewError, match="prompt: text: it is too long"):
        steering.hear({"type": "receipt", **told})


def no_channel(control: dict[str, Any]) -> None:
    raise ViewError("the control channel is not open")


def test_what_is_refused_for_now_is_sent_again() -> None:
    now_s, sent = 1.0, iter(["r1", "p1"])
    steering = SentControls([{"type": "rewind", "seconds": 5}, {"type": "prompt"}], clock=lambda: now_s)
    steering.send(lambda control: next(sent))
    for name, after_s in (("r1", 5), ("p1", 6)):
        waits = {
            "id": name,
            "status": "rejected",
            "message": "it waits for a place",
            "retry_after_s": after_s,
        }
        steering.hear({"type": "receipt", **waits})
    assert steering.rows() == [(kind, "waits: it waits for a place") for kind in ("rewind", "prompt")]
    again: list[dict[str, Any]] = []
    steering.send_due(again.append)
    assert again == []
    now_s = 6.0
    steering.send_due(no_channel)
    steering.send_due(again.append)
    steering.send_due(again.append)
    assert [control["id"] for control in again] == ["r1", "p1"], "in order, and once"
    now_s = 400.0
    with pytest.raises(ViewError, match="it waits for a place"):
        steering.hear({"type": "receipt", **waits})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a fox ", {"text": "a fox"}),
        ("a 30% slope", {"text": "a 30% slope"}),
        ("| a fox 40% |", {"text": "a fox"}),
        ("a | b", {"prompts": [{"text": "a", "weight": 0.5}, {"text": "b", "weight": 0.5}]}),
        ("a: 12.5 % | b", {"prompts": [{"text": "a", "weight": 0.125}, {"text": "b", "weight": 0.875}]}),
        ("a 90% | b 90%", {"prompts": [{"text": "a", "weight": 0.9}, {"text": "b", "weight": 0.9}]}),
    ],
)
def test_mixed_prompts(line: str, expected: dict[str, Any]) -> None:
    assert mixed(line) == expected


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("|", "no text"),
        ("70% | a", "no text"),
        ("a 0% | b", "share of 0"),
        ("a 100% | b", "nothing is left"),
    ],
)
def test_an_invalid_mix_is_reported(line: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        mixed(line)


@pytest.mark.parametrize(
    ("status", "body", "headers", "said"),
    [
        (503, {"message": "all are taken"}, {"Retry-After": "7"}, "all are taken; try again in 7 s"),
        (503, {"message": "starting; try again in 2 s"}, {"Retry-After": "2"}, "starting; try again in 2 s"),
        (400, {"message": "must be a number", "field": "seed"}, {}, "seed: must be a number"),
        (404, {}, {}, "http://h has no session 'main'"),
        (401, {}, {}, "session 'main' needs a token: --token …"),
        (
            401,
            {"message": "this session needs its token: send Authorization: Bearer <token>"},
            {},
            "this session needs its token: give --token, or a link with it",
        ),
        (500, [], {}, "http://h answered 500"),
    ],
)
def test_refusals_are_one_line(status: int, body: Any, headers: dict[str, str], said: str) -> None:
    assert refusal(httpx.Response(status, json=body, headers=headers), "http://h", "main") == said
