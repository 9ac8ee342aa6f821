"""Control logs: a live session's video again, bit for bit, whatever was done; bad lines are named."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from engine.backends.base import Backend
from engine.backends.fake import FAKE_SPEC, FakeBackend
from engine.backends.registry import load_backend
from engine.commands import replay as command
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
from server.worker.base import Numbers
from server.worker.numbering import numbered, numbered_log
from tests.engine.runtime.session.edited import AHEAD, SEGMENT_S, lines
from tests.rigs.engine.fakes import Rig

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
    data = rig.engine.take(session, "log").data
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


@pytest.mark.slow
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
    log.write_bytes(rig.engine.take("s", "log").data)
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
    rig.engine.open(OpenSession("file", None, 8, snapshot=rig.engine.take("s", "snapshot").data))
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
    data = rig.engine.take("s", "snapshot").data
    rig.engine.open(OpenSession("again", None, None, snapshot=data))
    with pytest.raises(InvalidInput, match="one line of text"):
        rig.engine.open(OpenSession("spoilt", None, None, snapshot=data.replace(b"a family", b"a\\nfamil")))


@pytest.mark.slow
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
        lengths.append(rig.engine.take("s", "log").data.count(b"\n") - 1)
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
    header = json.loads(rig.engine.take("s", "log").data.splitlines()[0])
    assert header["lost"] > 10


@pytest.mark.parametrize("kind", ["prompt", "snapshot"])
def test_a_log_that_counts_on_from_a_worker_that_is_gone_replays_the_same(kind: str) -> None:
    rig = Rig(config=AHEAD)
    rig.open(prompt="a red city", seed=3)
    if kind == "snapshot":
        rig.run(2.2 * SEGMENT_S)
        rig.engine.open(OpenSession("t", None, None, snapshot=rig.engine.take("s", "snapshot").data))
    name = "s" if kind == "prompt" else "t"
    rig.submit(Prompt("a yellow city"), session=name)
    rig.submit(Rewind(1.0), session=name)  # before the first segment: the prompt goes on waiting
    rig.engine.set_watched(name, True)
    rig.run(4.3 * SEGMENT_S)
    for body in (Prompt("blue", when="now"), Rewind(3000.0)):
        rig.submit(body, session=name)
        rig.run_segments(2, name)
    first = Numbers(1, 185, 8 * 185)
    data = numbered_log(rig.engine.take(name, "log").data, first)
    header, *rows = (json.loads(row) for row in data.splitlines())
    receipts = {r.id: getattr(numbered(r, first), "segment", None) for r in rig.receipts(name)}
    assert [row["segment"] for row in rows] == [receipts[row["id"]] for row in rows]
    assert (header["before"], header.get("segment", 185)) == (185, 185)
    assert header["segments"] == 185 + len(rig.segments(name))
    assert [row.get("from") for row in rows if row["type"] == "rewind"] == [184, 184]
    log = read_log(data, FAKE_SPEC, FakeBackend.fingerprint)
    live = {s.segment + 185: s.frames.tobytes() for s in rig.segments(name)}
    again = {m.segment: m.frames.tobytes() for m, _ in zip(replay(log, FakeBackend()), live, strict=False)}
    assert again == live


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
    assert "made with --backend 'tensorrt'" in captured.err
    assert captured.out.splitlines()[-1] == shown.splitlines()[-1]
    rows[2]["segment"] = 0
    log.write_text("\n".join(map(json.dumps, rows)))
    assert command.main([str(log), "--backend", "fake", "--out", str(tmp_path / "no.mp4")]) == 2
    assert f"psistream replay: {log}:3: segment: must be " in capsys.readouterr().err
    assert not (tmp_path / "no.mp4").exists()
    for argv in ([str(log), "--backend", "fake"], [str(tmp_path / "none")], ["--segments", "0", "x"], []):
        assert command.main(argv) == 2
        assert "psistream replay: " in capsys.readouterr().err
