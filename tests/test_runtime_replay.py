"""Control logs: a live session's video again, bit for bit, whatever was done; bad lines are named."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import replay as command
from engine.backends.base import Backend
from engine.backends.fake import FAKE_SPEC, FakeBackend
from engine.backends.registry import load_backend
from engine.config import RuntimeConfig
from engine.errors import InvalidInput
from engine.runtime import controllog, wire
from engine.runtime.replay import read_log, replay
from engine.types import (
    Action,
    ControlBody,
    Image,
    OpenSession,
    Pause,
    Prompt,
    Reset,
    Resume,
    Rewind,
    Weighted,
)
from server.control.protocol import parse_control
from tests.fakes import Rig

SEGMENT_S = FAKE_SPEC.segment_s
AHEAD = RuntimeConfig(max_sessions=4, lead_min_s=2.2 * SEGMENT_S, lead_max_s=4 * SEGMENT_S)
PICTURE = np.arange(3 * 96 * 160, dtype=np.uint32).reshape(3, 96, 160).astype(np.uint8)
BODIES: list[ControlBody] = [
    Prompt("a blue fox"),
    Prompt('é "red" 狐', "soft", "now", 6),
    Prompt("night", "cut"),
    Prompt("a green city", "cut", "now"),
    Prompt((Weighted("red", 0.3), Weighted("yellow", 2.0)), "soft", "next", 3),
    Action("left"),
    Action(None),
    Pause(),
    Resume(),
    Reset(),
    Reset(9, "now"),
    Rewind(2.6),
    Image(PICTURE),
    Image(PICTURE, "now"),
]


def check(rig: Rig, make: Backend, session: str = "s") -> int:
    """Each segment that the log tells of is the live one. How many."""
    data = rig.engine.export(session, "log")
    log = read_log(data, make.spec, make.fingerprint)
    live = {s.segment: s for s in rig.segments(session)}
    told = log.segments - log.begin.segment
    for made, _ in zip(replay(log, make), range(told), strict=False):
        assert made.frames.tobytes() == live[made.segment].frames.tobytes(), made.segment
    return told


@pytest.mark.parametrize("seed", range(4))
def test_a_replay_is_the_live_video_bit_for_bit_whatever_was_done(seed: int) -> None:
    chance = random.Random(seed)
    rig = Rig(config=AHEAD, delay_s=0.02)
    rig.open(prompt="a red city", seed=3)
    paused = False
    for _ in range(24):
        rig.run(chance.uniform(0.05, 1.2))
        for _ in range(chance.choice((1, 1, 2))):
            body = chance.choice(BODIES)
            if isinstance(body, Pause) and paused:
                body = Resume()
            paused = isinstance(body, Pause) or (paused and not isinstance(body, Resume))
            rig.submit(body)
    rig.submit(Resume())
    rig.run_segments(3)
    assert {r.status for r in rig.receipts()} == {"applied"}
    assert check(rig, FakeBackend()) == len(rig.segments()) > 15


def test_the_model_that_comes_with_psistream_replays_bit_for_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backend = load_backend("onnxruntime")
    rig = Rig(backend, config=AHEAD)  # type: ignore[arg-type]
    rig.open(prompt="a red fox walks right", seed=5)
    rig.run(0.7 * SEGMENT_S)
    rig.submit(Prompt("night", "soft", "now", 3))
    rig.run(0.6 * SEGMENT_S)
    rig.submit(Rewind(0.4))
    rig.run_segments(1)
    assert check(rig, backend) == len(rig.segments())
    log = tmp_path / "a.jsonl"
    log.write_bytes(rig.engine.export("s", "log"))
    said = []
    for _ in range(2):
        assert command.main([str(log), "--segments", "2"]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert said[0].startswith("2 segments, ")
    backend.close()


def test_restored_and_forked_sessions_have_logs_of_their_own() -> None:
    rig = Rig(config=AHEAD)
    rig.open(prompt="a red city", seed=3)
    rig.run(5.2 * SEGMENT_S)
    rig.submit(Prompt("blue", "soft", transition_segments=9))
    rig.submit(Action("right"))
    rig.run(3.3 * SEGMENT_S)
    rig.engine.open(OpenSession("file", None, 8, snapshot=rig.engine.export("s", "snapshot")))
    rig.engine.open(OpenSession("fork", None, None, fork_of="s", rewind_s=2.0))
    rig.engine.open(OpenSession("image", "green", None, fork_of="s", image=PICTURE))
    for name in ("file", "fork", "image"):
        rig.engine.set_watched(name, True)
        rig.run_segments(3, name)
        rig.submit(Prompt("night", "cut", "now"), session=name)
        rig.run_segments(2, name)
        rig.submit(Rewind(1.0), session=name)
        rig.run_segments(2, name)
        assert check(rig, FakeBackend(), name) >= 7


def test_a_long_log_begins_anew_and_stays_true(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.runtime import story

    for module in (controllog, story):
        monkeypatch.setattr(module, "MOST_LINES", 40)
    chance = random.Random(1)
    rig = Rig(config=AHEAD)
    rig.open(prompt="a red city", seed=3)
    lengths = []
    for n in range(140):
        rig.run(0.3)
        quiet = [b for b in BODIES if not isinstance(b, Pause)]
        rig.submit(Rewind(30.0) if n == 100 else chance.choice(quiet))
        lengths.append(len(rig.engine._sessions["s"].log.lines))
    rig.run_segments(2)
    assert max(lengths) <= 41
    told = check(rig, FakeBackend())
    assert 3 < told < len(rig.segments())


def test_a_flood_between_two_segments_is_bounded_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.runtime import story

    for module in (controllog, story):
        monkeypatch.setattr(module, "MOST_LINES", 20)
    rig = Rig()
    rig.open()
    for n in range(60):
        rig.submit(Action("left"))
        if n % 50 == 49:
            rig.run_segments(1)
    header = json.loads(rig.engine.export("s", "log").splitlines()[0])
    assert header["lost"] > 10


# ---- the file ----


@pytest.mark.parametrize("body", BODIES, ids=lambda b: type(b).__name__)
def test_a_control_is_written_as_the_wire_has_it(body: ControlBody) -> None:
    message = json.loads(json.dumps(wire.to_wire(body)))
    read = wire.from_wire(message, FAKE_SPEC)
    if isinstance(body, Image):
        assert isinstance(read, Image)
        np.testing.assert_array_equal(read.pixels, body.pixels)
        assert read.when == body.when
        parse_control(message, max_bytes=10**6, decode_image=lambda data: PICTURE)
    else:
        assert read == body == parse_control(message).body


def lines() -> list[dict[str, Any]]:
    rig = Rig(config=AHEAD)
    rig.open(prompt="a red city", seed=3)
    rig.run(2.2 * SEGMENT_S)
    for body in (Prompt("blue"), Action("left"), Prompt("green", when="now"), Rewind(1.0)):
        rig.submit(body)
        rig.run(1.1 * SEGMENT_S)
    return [json.loads(line) for line in rig.engine.export("s", "log").splitlines()]


def read(rows: list[dict[str, Any]]) -> Any:
    data = b"\n\n".join(row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows)
    return read_log(data, FAKE_SPEC, FakeBackend.fingerprint)


def test_a_log_can_be_edited_by_hand() -> None:
    header, *rows = lines()
    assert set(header) >= {"format", "model", "weights", "backend", "prompts", "seed", "segments"}
    first = {"segment": 1, "type": "prompt", "text": "a yellow city", "when": "now"}  # no id, no from
    log = read([{**header, "segments": 4}, first])
    shown = [made for made, _ in zip(replay(log, FakeBackend()), range(4), strict=False)]
    assert all(made.shown for made in shown)
    sky = shown[-1].frames[-1, 20:60].mean((0, 1))
    assert sky[0] > sky[2] + 50
    assert sky[1] > sky[2] + 50
    assert read([header, *rows]).segments == header["segments"]


def changed(at: int, **fields: Any) -> list[dict[str, Any]]:
    rows = lines()
    rows[at] = {k: v for k, v in {**rows[at], **fields}.items() if v != "gone"}
    return rows


@pytest.mark.parametrize(
    ("rows", "line", "field", "hint"),
    [
        (list, 0, "log", "empty"),
        (lambda: [b"{", *lines()], 1, "log", "not JSON"),
        (lambda: [[], *lines()], 1, "log", "JSON object"),
        (lambda: changed(0, format="x"), 1, "format", "control log"),
        (lambda: changed(0, weights="x"), 1, "model", "weights x), here runs fake"),
        (lambda: changed(0, colour=1), 1, "colour", "not a known field"),
        (lambda: changed(0, seed=-1), 1, "seed", "4294967295"),
        (lambda: changed(0, prompts="x"), 1, "prompts", "list of objects"),
        (lambda: changed(0, segments="x"), 1, "segments", "whole number"),
        (lambda: changed(0, snapshot="?", prompts="gone", seed="gone"), 1, "snapshot", "base64"),
        (lambda: changed(1, type="dance"), 3, "type", "one of prompt"),
        (lambda: changed(1, text="gone"), 3, "text", "either text or prompts"),
        (lambda: changed(1, colour="x"), 3, "colour", "not a field of prompt"),
        (lambda: changed(1, segment="x"), 3, "segment", "whole number"),
        (lambda: changed(2, segment=0), 5, "segment", "in order"),
        (lambda: changed(2, **{"from": 0}), 5, "from", "at once"),
        (lambda: changed(3, **{"from": 99}), 7, "from", "earlier segment"),
        (lambda: changed(4, seconds="gone"), 9, "seconds", "missing"),
    ],
)
def test_a_bad_line_is_named_with_its_field_and_the_fix(rows: Any, line: int, field: str, hint: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(rows())
    assert caught.value.field == field
    assert hint in caught.value.message
    assert not line or f"line {line}:" in caught.value.message
    assert len(caught.value.message) < 250


def test_what_only_the_session_can_tell_is_told_with_its_place() -> None:
    for at, fields, hint in (
        (1, {"how": "hard"}, "how must be"),
        (3, {"from": 0, "screen": 0}, ""),
    ):
        log = read(changed(at, **fields))
        if hint:
            with pytest.raises(InvalidInput, match=hint):
                list(zip(replay(log, FakeBackend()), range(9), strict=False))
    rows = lines()
    rows[4] = {**rows[4], "from": rows[3]["segment"] - 1}  # dropped by the `now` before
    with pytest.raises(InvalidInput, match="did not come through"):
        list(zip(replay(read(rows), FakeBackend()), range(99), strict=False))


# ---- the command ----


def test_the_command_writes_a_video_and_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, log, out = lines(), tmp_path / "log.jsonl", tmp_path / "out.mp4"
    log.write_text("\n".join(map(json.dumps, rows)))
    assert command.main([str(log), "--backend", "fake", "--out", str(out), "--scale", "1"]) == 0
    assert out.stat().st_size > 1000
    shown = capsys.readouterr().out
    assert "s\n" in shown
    assert "SHA-256" in shown
    rows[0]["backend"] = "tensorrt"
    log.write_text("\n".join(map(json.dumps, rows)))
    assert command.main([str(log), "--backend", "fake"]) == 0
    captured = capsys.readouterr()
    assert "alike" in captured.err
    assert captured.out.splitlines()[-1] == shown.splitlines()[-1]
    log.write_text("{}")
    for argv in ([str(log), "--backend", "fake"], [str(tmp_path / "none")], ["--segments", "0", "x"], []):
        assert command.main(argv) == 2
        assert "psistream replay: " in capsys.readouterr().err
