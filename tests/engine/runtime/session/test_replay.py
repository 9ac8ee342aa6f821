"""Control logs: a live session's video again, bit for bit, whatever was done; bad lines are named."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.backends.base import Backend
from engine.backends.fake import FAKE_SPEC, FakeBackend
from engine.backends.registry import load_backend
from engine.commands import replay as command
from engine.config import RuntimeConfig
from engine.errors import InvalidInput
from engine.images import decode_image
from engine.runtime.log import control_log as controllog
from engine.runtime.log.reader import read_log
from engine.runtime.session.replay import replay
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
from engine.wire.controls import control_json
from engine.wire.parse import parse_control, stored_control
from server.gateway.numbering import Numbering
from server.worker.messages import SegmentStats
from tests.rigs.fakes import Rig

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
    told = log.segments - log.start.segment
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


def test_a_prompt_of_joined_signs_survives_a_snapshot_and_a_control_character_does_not() -> None:
    rig = Rig()
    rig.open(prompt="a family \U0001f468\u200d\U0001f469\u200d\U0001f467 walks", seed=3)
    rig.run(2.2 * SEGMENT_S)
    data = rig.engine.export("s", "snapshot")
    rig.engine.open(OpenSession("again", None, None, snapshot=data))
    with pytest.raises(InvalidInput, match="one line of text"):
        rig.engine.open(OpenSession("spoilt", None, None, snapshot=data.replace(b"a family", b"a\\nfamil")))


def test_a_long_log_begins_anew_and_stays_true(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controllog, "MOST_LINES", 40)
    chance = random.Random(1)
    rig = Rig(config=AHEAD)
    rig.open(prompt="a red city", seed=3)
    lengths = []
    for n in range(140):
        rig.run(0.3)
        quiet = [b for b in BODIES if not isinstance(b, Pause)]
        rig.submit(Rewind(30.0) if n == 100 else chance.choice(quiet))
        lengths.append(rig.engine.export("s", "log").count(b"\n") - 1)
    rig.run_segments(2)
    assert max(lengths) <= 41
    told = check(rig, FakeBackend())
    assert 3 < told < len(rig.segments())


def test_a_flood_between_two_segments_is_bounded_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controllog, "MOST_LINES", 20)
    rig = Rig()
    rig.open()
    for n in range(60):
        rig.submit(Action("left"))
        if n % 50 == 49:
            rig.run_segments(1)
    header = json.loads(rig.engine.export("s", "log").splitlines()[0])
    assert header["lost"] > 10


@pytest.mark.parametrize("kind", ["prompt", "snapshot"])
def test_a_log_that_counts_on_from_a_worker_that_is_gone_replays_the_same(kind: str) -> None:
    rig = Rig(config=AHEAD)
    rig.open(prompt="a red city", seed=3)
    if kind == "snapshot":
        rig.run(2.2 * SEGMENT_S)
        rig.engine.open(OpenSession("t", None, None, snapshot=rig.engine.export("s", "snapshot")))
    name = "s" if kind == "prompt" else "t"
    rig.submit(Prompt("a yellow city"), session=name)
    rig.submit(Rewind(1.0), session=name)  # before the first segment: the prompt goes on waiting
    rig.engine.set_watched(name, True)
    rig.run(4.3 * SEGMENT_S)
    for body in (Prompt("blue", when="now"), Rewind(3000.0)):
        rig.submit(body, session=name)
        rig.run_segments(2, name)
    numbers = Numbering()
    numbers.stats(SegmentStats(name, 0, 184, 8 * 184, {}, 0.0, 0, 0, 0, 0.0), 8)
    numbers.interrupted()
    data = numbers.log(rig.engine.export(name, "log"))
    header, *rows = (json.loads(row) for row in data.splitlines())
    receipts = {r.id: numbers.receipt(r).segment for r in rig.receipts(name)}
    assert [row["segment"] for row in rows] == [receipts[row["id"]] for row in rows]
    assert (header["before"], header.get("segment", 185)) == (185, 185)
    assert header["segments"] == 185 + len(rig.segments(name))
    assert [row.get("from") for row in rows if row["type"] == "rewind"] == [184, 184]
    log = read_log(data, FAKE_SPEC, FakeBackend.fingerprint)
    live = {s.segment + 185: s.frames.tobytes() for s in rig.segments(name)}
    again = {m.segment: m.frames.tobytes() for m, _ in zip(replay(log, FakeBackend()), live, strict=False)}
    assert again == live


# ---- the file ----


@pytest.mark.parametrize("body", BODIES, ids=lambda b: type(b).__name__)
def test_a_control_is_written_as_the_wire_has_it(body: ControlBody) -> None:
    message = json.loads(json.dumps(control_json(body)))
    read = stored_control(message, lambda data: decode_image(data, 160, 96))
    if isinstance(body, Image):
        assert isinstance(read, Image)
        np.testing.assert_array_equal(read.pixels, body.pixels)
        assert read.when == body.when
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


def from_snapshot(**fields: Any) -> list[dict[str, Any]]:
    """A log that begins from a snapshot, without controls."""
    rig = Rig(config=AHEAD)
    rig.open(prompt="a red city", seed=3)
    rig.run_segments(2)
    rig.engine.open(OpenSession("fork", "green", None, fork_of="s", image=PICTURE))
    header = json.loads(rig.engine.export("fork", "log").splitlines()[0])
    return [{k: v for k, v in {**header, **fields}.items() if v != "gone"}]


def scene(**fields: Any) -> dict[str, Any]:
    """The change with which that log begins, edited."""
    change: dict[str, Any] = from_snapshot()[0]["change"]
    change["scene"] = {**change["scene"], **fields}
    return change


def other_lines(text: str, at: int = 1) -> list[Any]:
    rows: list[Any] = lines()
    rows[at] = text.encode()
    return rows


def test_a_log_that_begins_from_a_snapshot_is_read_as_written() -> None:
    start = read(from_snapshot()).start
    assert start.change is not None
    assert start.change.scene is not None
    np.testing.assert_array_equal(start.change.scene.image, PICTURE)
    assert start.change.prompts == (Weighted("green"),)


@pytest.mark.parametrize(
    ("rows", "line", "field", "hint"),
    [
        (list, 0, "log", "empty"),
        # JSON
        (lambda: [b"{", *lines()], 1, "log", "not JSON"),
        (lambda: [[], *lines()], 1, "log", "JSON object"),
        (lambda: other_lines('{"segment": 2,}'), 3, "log", "character 14"),
        (lambda: other_lines('{"segment": NaN}'), 3, "log", "NaN"),
        (lambda: other_lines('{"segment": 1, "segment": 2}'), 3, "segment", "twice"),
        (lambda: other_lines("[" * 100_000), 3, "log", "nested"),
        (lambda: other_lines(f'{{"segment": {"9" * 5000}}}'), 3, "log", "too long"),
        (lambda: [lines()[0], "é".encode("latin-1")], 3, "log", "UTF-8"),
        # the first line
        (lambda: lines()[1:], 1, "format", "first line"),
        (lambda: changed(0, format="x"), 1, "format", "psistream-log-1"),
        (lambda: changed(0, model="gone"), 1, "model", "--model"),
        (lambda: changed(0, weights="x"), 1, "weights", "weights 'x', fake has"),
        (lambda: changed(0, colour=1), 1, "colour", "not a known field"),
        (lambda: changed(0, seed=-1), 1, "seed", "4294967295"),
        (lambda: changed(0, seed="gone"), 1, "seed", "whole number"),
        (lambda: changed(0, prompts="gone"), 1, "prompts", "missing"),
        (lambda: changed(0, prompts="x"), 1, "prompts", "list of 1 to 8 objects"),
        (lambda: changed(0, prompts=[{"text": " "}]), 1, "prompts[0].text", "empty"),
        (lambda: changed(0, prompts=[{"text": "a", "weight": True}]), 1, "prompts[0].weight", "above 0"),
        (lambda: changed(0, image="x"), 1, "image", "base64"),
        (lambda: changed(0, image="QUJD"), 1, "image", "not a picture"),
        (lambda: changed(0, context_noise=True), 1, "context_noise", "0 to 1"),
        (lambda: changed(0, backend=7), 1, "backend", "string"),
        (lambda: changed(0, before=-1), 1, "before", "whole number"),
        (lambda: changed(0, before=99), 1, "segments", "from 99 to"),
        (lambda: from_snapshot(before=1), 1, "segment", "from 1 up"),
        (lambda: changed(0, lost="many"), 1, "lost", "whole number"),
        (lambda: changed(0, segments="x"), 1, "segments", "whole number"),
        (lambda: changed(0, segments="gone"), 1, "segments", "missing"),
        (lambda: changed(0, segments=10**12), 1, "segments", "to 10000000"),
        (lambda: changed(0, segments=1), 3, "segment", "line 1 tells of 1 segments"),
        (lambda: changed(0, snapshot="?"), 1, "prompts", "not with both"),
        (lambda: changed(0, segment=0), 1, "segment", "belongs to a snapshot"),
        (lambda: from_snapshot(snapshot="?"), 1, "snapshot", "base64"),
        (lambda: from_snapshot(snapshot="QUJD"), 1, "snapshot", "safetensors"),
        (lambda: from_snapshot(segment="gone"), 1, "segment", "missing"),
        (lambda: from_snapshot(segment=5), 1, "segments", "from 5 to"),
        (lambda: from_snapshot(change=[]), 1, "change", "prompts, over, scene"),
        (lambda: from_snapshot(change={**scene(), "over": 99}), 1, "change.over", "to 64"),
        (lambda: from_snapshot(change=scene(seed="x")), 1, "change.scene.seed", "whole number"),
        (lambda: from_snapshot(change=scene(colour=1)), 1, "change.scene", "keep_anchor"),
        # controls
        (lambda: [*lines(), lines()[0]], 11, "format", "another one"),
        (lambda: changed(1, type="dance"), 3, "type", 'one of "prompt"'),
        (lambda: changed(1, type=["prompt"]), 3, "type", 'one of "prompt"'),
        (lambda: changed(1, id=7), 3, "id", "string"),
        (lambda: changed(1, text="gone"), 3, "text", "missing"),
        (lambda: changed(1, text=None), 3, "text", "missing"),
        (lambda: changed(1, text="a\nb"), 3, "text", "one line"),
        (lambda: changed(1, text="\ud800"), 3, "text", "control characters"),
        (lambda: changed(1, how="hard"), 3, "how", "recondition"),
        (lambda: changed(1, when=[]), 3, "when", "next"),
        (lambda: changed(1, transition_segments=0), 3, "transition_segments", "to 64"),
        (lambda: changed(1, colour="x"), 3, "colour", "not a known field"),
        (lambda: changed(1, segment="x"), 3, "segment", "whole number"),
        (lambda: changed(1, segment="gone"), 3, "segment", "missing"),
        (lambda: changed(1, screen=1), 3, "screen", "at once"),
        (lambda: changed(2, segment=0), 5, "segment", "in order"),
        (lambda: changed(2, action="fly"), 5, "action", "left"),
        (lambda: changed(2, **{"from": 0}), 5, "from", "at once"),
        (lambda: changed(3, **{"from": 99}), 7, "from", "whole number"),
        (lambda: changed(3, screen=0), 7, "screen", "rewind"),
        (lambda: changed(4, seconds="gone"), 9, "seconds", "missing"),
        (lambda: changed(4, seconds=-1), 9, "seconds", "above 0"),
        (lambda: changed(4, screen="gone"), 9, "screen", "missing"),
        (lambda: changed(4, **{"from": "gone"}), 9, "from", "missing"),
        (lambda: changed(4, **{"from": lines()[3]["segment"] - 1}), 9, "from", "did not come through"),
    ],
)
def test_a_bad_line_is_named_with_its_field_and_the_fix(rows: Any, line: int, field: str, hint: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(rows())
    assert caught.value.field == field
    assert hint in caught.value.message
    named = "" if field == "log" else f"{field}: "
    assert not line or caught.value.message.startswith(f"log:{line}: {named}")
    assert len(caught.value.message) < 250
    assert caught.value.message.isprintable()


def test_what_may_be_meant_so_is_a_warning() -> None:
    rows = changed(0, lost=3)
    rows[2] |= {"id": "twice"}
    rows[3] |= {"id": "twice"}
    lost, twice = read(rows).warnings
    assert lost.startswith("log:1: lost: 3 controls")
    assert twice.startswith("log:7: id: line 5 has 'twice' too")
    assert read(lines()).warnings == ()


def test_what_is_added_by_hand_goes_on_from_what_was_made_last() -> None:
    by_hand = [{"segment": 4, "type": "prompt", "text": text, "when": "now"} for text in ("a", "b")]
    log = read([{**lines()[0], "segments": 6}, {**by_hand[0], "from": 2}, by_hand[1]])
    assert [(line.source, line.screen) for line in log.lines] == [(2, 2), (2, 2)]
    shown = [made.shown for made, _ in zip(replay(log, FakeBackend()), range(6), strict=False)]
    assert shown == [True, True, True, False, True, True]


def test_more_lines_than_a_session_writes_may_be_added() -> None:
    line = {"segment": 1, "type": "action", "action": None}
    log = read([{**lines()[0], "segments": 2}, *([line] * (controllog.MOST_LINES + 10))])
    assert len(list(zip(replay(log, FakeBackend()), range(2), strict=False))) == 2


def test_no_spoilt_line_is_a_traceback() -> None:
    chance, whole = random.Random(5), [json.dumps(row) for row in lines()]
    odd = ['"', "{", "}", "null", "-1", "1e999", "[]", "0", "true", "9" * 20, "\\u0000", "é", ","]
    for _ in range(1500):
        text = "\n".join(whole)
        for _ in range(chance.choice((1, 1, 2, 5))):
            at = chance.randrange(len(text))
            text = text[:at] + chance.choice(odd) + text[at + chance.randrange(8) :]
        with suppress(InvalidInput):
            read_log(text.encode(), FAKE_SPEC, FakeBackend.fingerprint)


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
    rows[2]["segment"] = 0
    log.write_text("\n".join(map(json.dumps, rows)))
    assert command.main([str(log), "--backend", "fake", "--out", str(tmp_path / "no.mp4")]) == 2
    assert f"psistream replay: {log}:3: segment: must be " in capsys.readouterr().err
    assert not (tmp_path / "no.mp4").exists()
    for argv in ([str(log), "--backend", "fake"], [str(tmp_path / "none")], ["--segments", "0", "x"], []):
        assert command.main(argv) == 2
        assert "psistream replay: " in capsys.readouterr().err
