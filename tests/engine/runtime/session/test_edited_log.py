"""Control logs that were edited by hand: what is read, warned of and refused."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from engine.backends.fake import FAKE_SPEC, FakeBackend
from engine.errors import InvalidInput
from engine.runtime.log import control_log as controllog
from engine.runtime.log.reader import read_log
from engine.runtime.session.replay import replay
from engine.types import (
    OpenSession,
    Weighted,
)
from tests.engine.runtime.session.edited import AHEAD, lines, read
from tests.rigs.engine.fakes import Rig

PICTURE = np.arange(3 * 96 * 160, dtype=np.uint32).reshape(3, 96, 160).astype(np.uint8)


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
    header = json.loads(rig.engine.take("fork", "log").data.splitlines()[0])
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
